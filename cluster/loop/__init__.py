"""The main loop of a run: generation, scoring, update, broadcast, and what ends it."""
