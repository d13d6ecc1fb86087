"""Proofs: a step of the 3B shape within 24 GB on a CPU, and in `gpu/` what no CPU can show."""
