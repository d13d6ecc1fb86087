"""Dimensions of a model, from its configuration or as published."""
