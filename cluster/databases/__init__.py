"""Places of databases, the states that their files are in, and their SQL dialect."""
