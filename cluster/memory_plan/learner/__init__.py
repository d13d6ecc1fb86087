"""Memory of the learner: its state, and the work of a pack, counted without allocating it."""
