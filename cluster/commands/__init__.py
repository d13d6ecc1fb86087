"""What the command line takes, a file per command with options of its own."""
