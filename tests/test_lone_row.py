"""A lone row is computed as two, in whatever shape a model hands it over."""

from __future__ import annotations

import pytest
import torch

from floe.actors.engine.vllm_lone_row import compute_lone_rows_in_pairs

NUM_IN, NUM_OUT = 8, 5


class Layer(torch.nn.Module):
    """A linear layer as vLLM leaves it on CPU; it records the rows that its kernel is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(NUM_OUT, NUM_IN, generator=torch.Generator().manual_seed(0))
        self.rows: list[int] = []
        self.cpu_linear = self._product

    def _product(self, x, weight, bias):
        self.rows.append(x.numel() // NUM_IN)
        return torch.nn.functional.linear(x, weight, bias)


@pytest.mark.parametrize(
    ("shape", "num_rows"), [((1, NUM_IN), 2), ((3, NUM_IN), 3), ((1, 1, NUM_IN), 2), ((1, 4, NUM_IN), 4)]
)
def test_every_shape_of_rows_keeps_it_and_a_lone_one_is_doubled(shape, num_rows):
    """Models that vLLM runs by transformers' code hand over a batch of one sequence, [1, rows, in]."""
    layer = Layer()
    assert compute_lone_rows_in_pairs(layer) == 1
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = layer.cpu_linear(x, layer.weight, None)
    assert layer.rows == [num_rows]
    torch.testing.assert_close(found, x @ layer.weight.t())
