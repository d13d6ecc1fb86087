"""Overheads that no formula gives, in bytes, each with its source. No default of a GPU was measured by floe itself."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Memory that processes hold on a GPU in addition to their tensors; a proof on a card replaces what it measured."""

    # vLLM's own report of one engine on one GPU, "non_torch_memory takes 0.39GiB" (vllm-project/vllm issue 11251),
    # rounded up. Every process that uses the GPU has a context of its own. The engine's lies outside of its share: vLLM
    # 0.32 first reads the device when the context is there (`init_snapshot` of `vllm/v1/worker/gpu_worker.py`).
    cuda_context_bytes: int = GIB // 2
    # "Estimated CUDA graph memory: 0.36 GiB total" (gpustack/runner pull request 251, vLLM 0.27), rounded up; vLLM
    # counts it into its share of the GPU since 0.21.
    cuda_graphs_bytes: int = GIB // 2
    # Context and graphs stay at sleep level 1; "1.14Gb used on each GPU after sleep" (vllm-project/vllm issue 32714).
    engine_asleep_bytes: int = 5 * GIB // 4
    # PyTorch gives cuBLAS 8.1 MiB for each thread that multiplies, 32 MiB from Hopper on
    # (pytorch/pytorch `aten/src/ATen/cuda/CublasHandlePool.cpp`, pull request 120925 for cuBLASLt); the forward and the
    # backward pass are a thread each.
    cublas_workspace_bytes: int = 64 * MIB
    # An assumption: NCCL allocates when ranks first talk to each other, and a learner's process group is there always.
    nccl_bytes: int = GIB // 4
    # PyTorch's allocator can't use every gap between what it holds: of the working memory. An assumption.
    allocator_slack_share: float = 0.05
    # The fields above that were measured, and when; none in the defaults.
    measured: tuple[str, ...] = ()
    measured_on: str = ""
    usable_bytes: int | None = None  # of the card, as CUDA says

    @property
    def sentence(self) -> str:
        if not self.measured:
            return "contexts, graphs, workspaces, NCCL and allocator: assumed, nothing was measured on this card"
        names = ", ".join(name.removesuffix("_bytes").replace("_", " ") for name in self.measured)
        return f"measured on this card on {self.measured_on}: {names}; the other constants are assumed"


# On a CPU, of the process with its libraries and before the model: estimates that `floe bench memory` agrees with.
ENGINE_PROCESS = 1000 * MIB
LEARNER_PROCESS = 900 * MIB
# Driver, Ray's own processes and reward workers of a local run.
REST_OF_RUN = 2 * GIB
# glibc keeps what it can't give back between two pieces of work: of the working memory.
HEAP_SLACK_SHARE = 0.05
