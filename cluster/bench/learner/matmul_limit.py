"""Measures how fast the machine multiplies matrices of the model's shapes: the time an update needs at that rate."""

from __future__ import annotations

import time

import torch

from floe.cluster.time_plan.update_flops import ModelSizes, Work, update_flops


class MatmulLimit:
    """Limit for a pack of `num_tokens` tokens, `num_scored` of them scored; the matmuls run alone and back to back."""

    def __init__(
        self, model: ModelSizes, num_tokens: int, num_scored: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._model = model
        self._device = device
        self._num_tokens = num_tokens
        # The projections of one layer and the head, each forward (by the weight's transpose) and backward.
        sizes = [(num_tokens, *sizes) for sizes in model.projections]
        sizes.append((num_scored, model.hidden, model.vocabulary))
        self._matmuls = []
        for rows, inputs, outputs in sizes:
            weight = torch.randn(outputs, inputs, dtype=dtype, device=device)
            activations = torch.randn(rows, inputs, dtype=dtype, device=device)
            gradients = torch.randn(rows, outputs, dtype=dtype, device=device)
            self._matmuls += [(activations, weight.t()), (gradients, weight)]

    def update_s(self, work: Work) -> float:
        """Measure once; return the seconds that the matmuls of `work` would take.

        Projections and head at the rates of their own shapes, LoRA and attention at the mean rate of those.
        """
        *layer_s, head_forward_s, head_backward_s = [self._seconds(left, right) for left, right in self._matmuls]
        *layer, head_forward, head_backward = [2 * left.shape[0] * right.numel() for left, right in self._matmuls]
        flops = update_flops(self._model, work)
        projections_s = sum(layer_s) * flops.projections / sum(layer)
        head_s = (head_forward_s + head_backward_s) * flops.head / (head_forward + head_backward)
        rate = (flops.projections + flops.head) / (projections_s + head_s)
        return projections_s + head_s + (flops.lora + flops.attention) / rate

    def _seconds(self, left: torch.Tensor, right: torch.Tensor) -> float:
        """Return the faster of two runs: what else the machine does is not its limit."""
        return min(self._once_s(left, right) for _ in range(2))

    def _once_s(self, left: torch.Tensor, right: torch.Tensor) -> float:
        synchronise(self._device)
        started_s = time.perf_counter()
        torch.mm(left, right)
        synchronise(self._device)
        return time.perf_counter() - started_s


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
