"""The subcommands that need no more than the runtime."""
