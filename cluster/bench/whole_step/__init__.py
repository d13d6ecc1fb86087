"""Whole GRPO steps of floe, next to those of another trainer."""
