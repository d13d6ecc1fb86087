"""DeepSpeed: ZeRO, precision, the optimiser step."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch._C._distributed_c10d import HashStore, Store, TCPStore

from floe.cluster.messages import LearnerRank
from floe.configs.errors import UserError
from floe.configs.sections.learning_sections import LearnerSection
from floe.learner.optimizer.deepspeed_library import BF16_Optimizer, DeepSpeedCPUAdam, deepspeed
from floe.learner.optimizer.operator_builds import prepare_to_build
from floe.learner.optimizer.optimizer_state import apply_state, layout_of, read_state, write_state

LOOPBACK = "127.0.0.1"

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
        prepare_to_build()
        _join_process_group(rank)
        zero_stage = settings.decided_zero_stage(dtype)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model,
            model_parameters=trainable,
            config=_deepspeed_config(settings, dtype, sum(one.numel() for one in trainable)),
        )
        self._adam: torch.optim.Optimizer = self._engine.basic_optimizer  # its parameters are the float32 partition
        self._layout = layout_of(model, self.rank_index, self.num_ranks, zero_stage)

    @property
    def module(self) -> torch.nn.Module:
        module: torch.nn.Module = self._engine.module
        return module

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Add the gradient of one micro-batch; `last` closes the update, whose loss is the sum over all ranks."""
        if isinstance(self._optimizer, BF16_Optimizer):
            # DeepSpeed's own forward would ask for it; without it, the gradients of earlier micro-batches count again.
            self._optimizer.clear_lp_grads()
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self.num_ranks)  # DeepSpeed takes the mean over ranks

    def step(self, learning_rate: float) -> float:
        """Clip, update and clear the gradients; return the norm before clipping.

        Raises FloatingPointError if it is not finite.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        gradients = [parameter.grad for parameter in self._engine.module.parameters() if parameter.grad is not None]
        # At stage 0 DeepSpeed clips but does not return the norm; at the others it does not show the gradients.
        own_norm = torch.nn.utils.get_total_norm(gradients) if self._optimizer is self._adam else None
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm() if own_norm is None else own_norm)
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}")
        return norm

    def save_state(self, folder: Path, num_steps_done: int) -> None:
        """Write everything that changes, each rank to its own file; return when all are written. Raises OSError."""
        write_state(folder, self._layout, self._adam, num_steps_done)
        self.gather(None)

    def load_state(self, folder: Path) -> int:
        """Restore what `save_state` wrote with as many ranks; return its `num_steps_done`.

        Raises UserError on every rank, and changes nothing, when one rank's file is damaged or another learner's.
        """
        state, fault = None, ""
        try:
            state = read_state(folder, self._layout, self._adam)
        except UserError as refusal:
            fault = str(refusal)
        faults = [found for found in self.gather(fault) if found]
        if faults or state is None:
            raise UserError(faults[0])
        positions = self.gather((state.num_updates, state.num_steps_done))
        if len(set(positions)) > 1:
            raise UserError(f"The ranks' files in '{folder}' are of different steps: continue from another checkpoint.")
        apply_state(self._adam, state)
        if isinstance(self._adam, DeepSpeedCPUAdam):
            _count_updates(self._adam, state.num_updates)
        if self._optimizer is not self._adam:
            self._optimizer.update_lp_params()
        return state.num_steps_done

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, by rank."""
        if self.num_ranks == 1:
            return [value]
        values: list[Any] = [None] * self.num_ranks
        torch.distributed.all_gather_object(values, value)
        return values


def training_device() -> torch.device:
    """Return the device to which DeepSpeed would move a policy: this process's GPU, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _count_updates(adam: DeepSpeedCPUAdam, num_updates: int) -> None:
    """Count up, as DeepSpeed's C++ side keeps running products of the betas: a power differs in the last bits."""
    parameter, gradient, *moments = (torch.zeros(1) for _ in range(4))
    group = adam.param_groups[0]
    settings = group["lr"], *group["betas"], group["eps"], group["weight_decay"], group["bias_correction"]
    for number in range(1, num_updates + 1):
        adam.ds_opt_adam.adam_update(adam.opt_id, number, *settings, parameter, gradient, *moments)


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _join_process_group(rank: LearnerRank | None) -> None:
    if torch.distributed.is_initialized():
        return
    if rank is None:
        rank = LearnerRank(index=0, count=1, host=LOOPBACK, port=0)
    os.environ.update(  # DeepSpeed reads them
        MASTER_ADDR=rank.host,
        MASTER_PORT=str(rank.port),
        RANK=str(rank.index),
        LOCAL_RANK="0",  # Ray shows each actor only its own GPU
        WORLD_SIZE=str(rank.count),
    )
    if rank.host == LOOPBACK:  # otherwise the libraries listen at every address of the machine
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=_store(rank), rank=rank.index, world_size=rank.count)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)


def _store(rank: LearnerRank) -> Store:
    """Return the store where the ranks meet; PyTorch's default would listen on every interface."""
    if rank.count == 1:
        return HashStore()
    if rank.index > 0:
        return TCPStore(rank.host, rank.port, rank.count, is_master=False)
    listener = socket.create_server((rank.host, rank.port))
    return TCPStore(
        rank.host, rank.port, rank.count, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def _deepspeed_config(settings: LearnerSection, dtype: str, num_trained: int) -> dict[str, Any]:
    optimizer = {"lr": settings.learning_rate, "betas": settings.adam_betas, "weight_decay": settings.weight_decay}
    # torch_adam, because off the GPU DeepSpeed's fused Adam has no kernel; with offload it brings its own CPU Adam.
    optimizer["torch_adam"] = not settings.offload_optimizer
    if not settings.offload_optimizer:
        optimizer["fused"] = True  # one pass over the weights in place of one for each operation of Adam
    # The bucket is allocated whole: at its default of 5e8 elements it would take 1 to 2 GB of a GPU.
    zero: dict[str, Any] = {"stage": settings.decided_zero_stage(dtype), "reduce_bucket_size": num_trained}
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
