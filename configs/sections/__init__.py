"""Sections of the configuration, with the bounds of their values."""
