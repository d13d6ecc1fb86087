"""Which tests start vLLM on the processor, which its build for CUDA can't."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from floe.cluster.machine.vllm_build import needs_gpu

MARKER = "cpu_engine"
FIXTURES = {"home", "other_home", "smoke_run"}  # of runs on the processor
REASON = "vLLM is built for CUDA here and has no CPU mode: this test computes with it on the processor"


def skip_reason(markers: Collection[str], fixtures: Collection[str], installed: Mapping[str, str]) -> str | None:
    """Return why a test can't run with what is installed; None where it can."""
    starts_engine = MARKER in markers or bool(FIXTURES & set(fixtures))
    return REASON if starts_engine and needs_gpu(installed) else None
