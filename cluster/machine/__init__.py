"""Cores, memory, processor and GPUs of this machine, and the Ray cluster that a run may join."""
