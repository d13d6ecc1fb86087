"""Comparison of a candidate's result with the gold's."""
