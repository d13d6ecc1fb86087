"""Options of the command line: one file for each command that has its own."""
