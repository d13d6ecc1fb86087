"""Packs: groups of a step laid out so that each prompt is computed once."""
