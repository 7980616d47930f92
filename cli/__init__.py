"""The command line: all commands, and their shared options."""
