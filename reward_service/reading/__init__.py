"""Queries read in a child process: parsed, resolved against a schema, turned into graphs."""
