"""What the learner holds: its state, and the work of a pack, counted without memory."""
