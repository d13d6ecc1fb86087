"""The work of each command, once its arguments are read."""
