"""The check that the learner computes the model's own log-probabilities, layer by layer where it does not."""
