"""The only DeepSpeed import: ZeRO, precision, the optimiser step."""

from __future__ import annotations

import math
import os
import socket

import deepspeed
import torch

from configs.schema import LearnerSection


class DeepSpeedEngine:
    """Accumulates gradients of micro-batches and steps AdamW.

    With bfloat16 DeepSpeed casts every parameter; the float32 master of the adapter lives in its optimiser.
    """

    def __init__(self, model: torch.nn.Module, settings: LearnerSection, dtype: str) -> None:
        _join_process_group()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model, model_parameters=trainable, config=_deepspeed_config(settings, dtype)
        )

    @property
    def module(self) -> torch.nn.Module:
        return self._engine.module

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Add the gradient of one micro-batch; `last` closes the update."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss)

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients. Returns the norm before clipping; FloatingPointError if not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}")
        return norm


def _join_process_group() -> None:
    if torch.distributed.is_initialized():
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    deepspeed.init_distributed(
        dist_backend="nccl" if torch.cuda.is_available() else "gloo", auto_mpi_discovery=False, verbose=False
    )


def _deepspeed_config(settings: LearnerSection, dtype: str) -> dict:
    optimizer = {"lr": settings.learning_rate, "betas": settings.adam_betas, "weight_decay": settings.weight_decay}
    # torch_adam: off the GPU DeepSpeed's fused Adam has no kernel; with offload it brings its own CPU Adam.
    optimizer["torch_adam"] = not settings.offload_optimizer
    zero: dict = {"stage": settings.zero_stage}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "optimizer": {"type": "AdamW", "params": optimizer},
        "bf16": {"enabled": dtype == "bfloat16"},
        "zero_optimization": zero,
        "steps_per_print": 2**31,
    }
