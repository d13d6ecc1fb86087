"""What differs in a model family, as floe finds it by itself; a plug-in overrides a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from floe.configs import model_families
from floe.configs.errors import UserError, first_line
from floe.configs.plugins.faults import place_of
from floe.learner.families import refusals
from floe.learner.families.attention_rules import AttentionRules

T = TypeVar("T")


class ModelFamily:
    """Answers what the learner asks about a family; each method here is what floe does by itself.

    A plug-in derives from this class and overrides what is otherwise in its family. It is made in the driver, in each
    learner and in each engine before the model's configuration is read, so that its module may register an architecture
    with transformers and vLLM. The check at the start of each run compares the learner with the model's own forward: a
    plug-in that is wrong ends the run there.
    """

    def refusal(self, config: Any) -> str | None:
        """Return why the learner can't compute a model of this transformers configuration; None where it can.

        The text ends the sentence "The model in FOLDER can't be trained: ".
        """
        return refusals.refusal(config)

    def engine_refusal(self, config: Any, *, on_cpu: bool) -> str | None:
        """Return why vLLM can't sample from a model of this configuration; None where it can."""
        return model_families.engine_refusal(config, on_cpu=on_cpu)

    def attention(self, layer: Any, rules: AttentionRules, scaling: float) -> tuple[AttentionRules, float]:
        """Return the rules of an attention layer, and the factor of its scores query @ key.

        `layer` is the module that transformers passes to an attention function; `rules` and `scaling` are what it
        hands over with it. `AttentionRules` has a window (tokens), a cap of the scores and sinks ([H], a score for each
        head). Called for each layer in each pass, and again where the backward pass computes a layer again.
        """
        return rules, scaling

    def logits(self, causal_lm: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits [R, V] of the decoder's last hidden states [R, H], with their gradient.

        Where it is not overridden, a few rows of noise show whether the model's logits are a plain product with the
        weight of its head, and the model's own code makes them where they are not.
        """
        raise NotImplementedError


def learner_refusal(family: ModelFamily, config: Any) -> str | None:
    """Return the family's refusal of a configuration. Raises UserError where the plug-in fails."""
    return _text_or_none(family, "refusal", lambda: family.refusal(config))


def sampling_refusal(family: ModelFamily, config: Any, *, on_cpu: bool) -> str | None:
    """Return the family's refusal for the engine. Raises UserError where the plug-in fails."""
    return _text_or_none(family, "engine_refusal", lambda: family.engine_refusal(config, on_cpu=on_cpu))


def has_own_logits(family: ModelFamily) -> bool:
    """Return whether a plug-in makes the logits."""
    return type(family).logits is not ModelFamily.logits


def _text_or_none(family: ModelFamily, name: str, call: Callable[[], Any]) -> str | None:
    try:
        found = call()
    except (Exception, SystemExit) as fault:
        raise UserError(
            f"model.family is of class {type(family).__name__}, whose {name}(...) raised {type(fault).__name__} "
            f"({first_line(fault)}) at {place_of(fault)}: correct it."
        ) from fault
    if found is not None and not isinstance(found, str):
        raise UserError(
            f"model.family is of class {type(family).__name__}, whose {name}(...) returned a "
            f"{type(found).__name__}: return None, or a text that says why."
        )
    return found
