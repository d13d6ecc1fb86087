"""Names the models that vLLM has its own code for."""

from __future__ import annotations

from vllm.model_executor.models.registry import ModelRegistry


def engine_classes() -> frozenset[str]:
    """Return the names of the model classes that this vLLM knows."""
    return frozenset(ModelRegistry.get_supported_archs())
