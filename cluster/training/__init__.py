"""A run's training: its attempts after losses of actors, the warm start, and the records of its steps."""
