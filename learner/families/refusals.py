"""Tells which model families the learner computes, from the configuration and the class, before a weight is read."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM

# Names in transformers of the layers whose tokens see earlier tokens by attention alone, with or without a window. In
# other layers a state flows through the pack, from one group's tokens into the next one's.
KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
# The layers of these families do not pass on to the attention what the learner needs to know of a pack.
NOT_HANDED_ON = frozenset({"opt", "nemotron"})
NOISE_SUFFIXES = ("dropout", "dropout_prob", "dropout_rate", "pdrop", "layerdrop", "jitter_noise")


def refusal(config: Any) -> str | None:
    """Return why the learner can't compute a model of this configuration, as the end of a sentence; None if it can."""
    name = config.model_type
    model_class = _class_of(config)
    if model_class is None:
        return f"transformers has no causal language model for '{name}'"
    text = config.get_text_config()
    unknown = sorted(set(getattr(text, "layer_types", None) or ()) - KNOWN_LAYERS)
    if unknown:
        return f"'{name}' has layers of the kind '{unknown[0]}', which the learner does not compute"
    if model_class._is_stateful:
        return f"'{name}' carries a state from token to token, which would flow from one answer of a group to the next"
    if name in NOT_HANDED_ON or not model_class._supports_attention_backend:
        return f"the attention of '{name}' is its own, and can't be computed with a prompt shared by a group"
    return None


def plain_config(config: Any) -> Any:
    """Return `config` with every dropout and jitter of the base model at 0: noise would enter ratios and KL."""
    for name, value in vars(config).items():
        if name.endswith(NOISE_SUFFIXES) and isinstance(value, float) and value > 0:
            setattr(config, name, 0.0)
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            plain_config(part)
    return config


def _class_of(config: Any) -> Any:
    return AutoModelForCausalLM._model_mapping.get(type(config), None)
