"""Questions of a run: the choice of those whose prompts fit, and those of each step."""
