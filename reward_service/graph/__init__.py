"""Queries as graphs of operators, and the network that compares them."""
