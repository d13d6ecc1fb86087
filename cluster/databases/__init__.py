"""Where databases lie, what state their files are in, and their SQL dialect."""
