"""Checkpoints of a run, and the rules by which one is continued."""
