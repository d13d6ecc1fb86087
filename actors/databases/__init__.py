"""Schemas and values of databases, read in a child process that a hostile file can't escape."""
