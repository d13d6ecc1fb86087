"""Traces: whole answers with their thought, kept where their SQL executes right, for supervised learning."""
