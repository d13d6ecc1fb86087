"""Runs that differ in one setting, trained from one start with one budget, and compared."""
