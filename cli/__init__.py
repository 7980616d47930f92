"""The command line: every command, and what the commands share."""
