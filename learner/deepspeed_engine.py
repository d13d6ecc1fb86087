"""The only DeepSpeed import: ZeRO, precision, the optimiser step."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import TypeVar

import deepspeed
import torch

from cluster.messages import LearnerRank
from configs.schema import LearnerSection

T = TypeVar("T")


class DeepSpeedEngine:
    """Accumulates gradients of micro-batches and steps AdamW.

    With bfloat16 DeepSpeed casts every parameter; the float32 master of the adapter lives in its optimiser, which
    also adds the micro-batches up in float32. With several ranks each call but `module` is one that all make together.
    """

    def __init__(
        self, model: torch.nn.Module, settings: LearnerSection, dtype: str, rank: LearnerRank | None = None
    ) -> None:
        self.rank_index = 0 if rank is None else rank.index
        self.num_ranks = 1 if rank is None else rank.count
        _join_process_group(rank)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model, model_parameters=trainable, config=_deepspeed_config(settings, dtype)
        )

    @property
    def module(self) -> torch.nn.Module:
        return self._engine.module

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Add the gradient of one micro-batch; `last` closes the update, whose loss is the sum over all ranks."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self.num_ranks)  # DeepSpeed takes the mean over ranks

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients. Returns the norm before clipping; FloatingPointError if not finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}")
        return norm

    def save(self, folder: Path, tag: str) -> None:
        """Everything that changes: adapter, float32 master, moments. Each rank writes its part."""
        self._engine.save_checkpoint(str(folder), tag=tag, save_latest=False, exclude_frozen_parameters=True)

    def load(self, folder: Path, tag: str) -> None:
        """What `save` wrote with as many ranks. Raises FileNotFoundError when it is not there."""
        path, _ = self._engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
        if path is None:
            raise FileNotFoundError(f"there is no checkpoint {folder / tag}")

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if self.num_ranks == 1:
            return [value]
        values: list = [None] * self.num_ranks
        torch.distributed.all_gather_object(values, value)
        return values


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _join_process_group(rank: LearnerRank | None) -> None:
    if torch.distributed.is_initialized():
        return
    if rank is None:
        rank = LearnerRank(index=0, count=1, host="127.0.0.1", port=free_port("127.0.0.1"))
    os.environ.update(
        MASTER_ADDR=rank.host,
        MASTER_PORT=str(rank.port),
        RANK=str(rank.index),
        LOCAL_RANK="0",  # Ray shows each actor its own GPU alone
        WORLD_SIZE=str(rank.count),
    )
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
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "steps_per_print": 2**31,
    }
