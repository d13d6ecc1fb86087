"""The folder of a run: names of its files, status, lock, and faults of the disk under it."""
