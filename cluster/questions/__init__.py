"""Questions of a run: which are taken, with prompts that fit, for which step."""
