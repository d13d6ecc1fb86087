"""Preparation of data: sources, databases, and the golds checked on them."""
