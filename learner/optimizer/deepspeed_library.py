"""Imports DeepSpeed without MLflow, which its tuner would load where it is installed, for seconds of each start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Make an import of the module fail as if it were not installed, unless it is loaded already."""
    is_loaded = name in sys.modules
    if not is_loaded:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not is_loaded:
            del sys.modules[name]


with _absent("mlflow"):
    import deepspeed
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer

__all__ = ["BF16_Optimizer", "DeepSpeedCPUAdam", "deepspeed"]
