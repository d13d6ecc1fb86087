"""Every family of causal language models, made tiny: whether the learner computes it and a run trains it."""
