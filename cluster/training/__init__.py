"""A run's training: its attempts, the warm start, and the records of its steps."""
