"""The demo: six databases and their questions, made from a seed."""
