"""DeepSpeed, the optimiser's state, the learning rate, and weights that are on the host for a time."""
