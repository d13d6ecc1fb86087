"""Metrics of a run: how each is computed, and the places that they are written to."""
