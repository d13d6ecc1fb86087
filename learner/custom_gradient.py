"""Calls functions that bring their own backward pass (PyTorch's `autograd.Function`)."""

from __future__ import annotations

from typing import Any

import torch


def applied(function: type[torch.autograd.Function], *given: Any) -> torch.Tensor:
    """Return the one tensor that the function makes of what it is given; PyTorch leaves `apply` without types."""
    out: torch.Tensor = function.apply(*given)
    return out
