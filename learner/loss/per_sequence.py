"""Computes quantities of whole sequences from those of their tokens (pure)."""

from __future__ import annotations

import torch


def sequence_sums(values: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """Return the sums [Q] of `values` [S] over the tokens of each sequence.

    `sequence` [S] int64 numbers the sequences from 0 to Q - 1. A number that no token has gets 0.
    `sequence_sums(...)[sequence]` gives each token the sum of its sequence.
    """
    num_sequences = int(sequence.max()) + 1 if len(sequence) else 0
    return values.new_zeros(num_sequences).index_add(0, sequence, values)


def sequence_means(values: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """Return the means [Q] of `values` [S] over the tokens of each sequence; NaN for a number that no token has."""
    return sequence_sums(values, sequence) / sequence_sums(torch.ones_like(values), sequence)
