"""Differences between model families: rules of attention, the output head, and what is refused."""
