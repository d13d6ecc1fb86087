"""Reward designs, a file each, under one interface."""
