"""Checks that the learner computes the model's own log-probabilities; where not, layer by layer."""
