"""Facts about a model's kind from its configuration, under transformers' names (pure)."""

from __future__ import annotations

from typing import Any

NAMES_OF_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
NAMES_OF_CHOSEN = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts")


def num_experts(config: Any) -> int:
    """Return how many experts a layer's MLP has; 0 where it is one MLP."""
    return _first_number(text_part(config), NAMES_OF_EXPERTS)


def mlp_width(config: Any) -> int:
    """Return how many inner units of a layer's MLPs a token passes through."""
    text = text_part(config)
    inner = getattr(text, "moe_intermediate_size", None) or text.intermediate_size
    if num_experts(config) == 0:
        width: int = text.intermediate_size
        return width
    num_shared = getattr(text, "n_shared_experts", None) or 0
    shared = getattr(text, "shared_expert_intermediate_size", None) or num_shared * inner
    total: int = max(1, _first_number(text, NAMES_OF_CHOSEN)) * inner + shared
    return total


def engine_refusal(config: Any, *, on_cpu: bool) -> str | None:
    """Return why vLLM can't sample from this model with floe's adapters, as the end of a sentence; None if it can."""
    if text_part(config) is not config:
        return (
            f"'{config.model_type}' reads images too, and its decoder's modules have other names in the engine: save "
            "its language model alone, and give that folder"
        )
    if on_cpu and num_experts(config) > 0:
        return (
            f"'{config.model_type}' is a mixture of experts, whose kernels vLLM has for GPUs alone once adapters are "
            "in use: set rollout.num_gpus, or use a model without experts"
        )
    return None


def text_part(config: Any) -> Any:
    """Return the decoder's configuration: the configuration itself, or a part of one that reads images too."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _first_number(config: Any, names: tuple[str, ...]) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((one for one in found if isinstance(one, int) and one > 0), 0)
