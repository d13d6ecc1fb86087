"""floe's contained scoring as a reward for other trainers; needs neither Ray nor vLLM nor PyTorch."""
