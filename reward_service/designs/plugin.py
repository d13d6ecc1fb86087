"""A reward design that a user wrote: named by its dotted path or entry point, held to what a design promises."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from floe.configs.errors import ConfigError, first_line
from floe.configs.plugins.faults import place_of
from floe.configs.plugins.kinds import REWARDS
from floe.configs.plugins.making import made
from floe.reward_service.designs.interface import Design, JudgedGroup, Reward, RewardDesign
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable

SEMANTICS = ("bird", "spider", "strict")
MAX_SHOWN_CHARACTERS = 200
TERM_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")


def plugin_design(name: str, arguments: Mapping[str, Any], folder: Path | None) -> Design:
    """Return the plug-in as the scorer uses it. Raises ConfigError for one that is no design."""
    rewards = made(REWARDS, name, arguments, folder)
    executes, semantics = getattr(rewards, "executes", True), getattr(rewards, "semantics", None)
    if not isinstance(executes, bool):
        raise ConfigError(f"reward.design is {name!r}, whose `executes` is {executes!r}: set it to True or False.")
    if semantics not in (None, *SEMANTICS):
        raise ConfigError(
            f"reward.design is {name!r}, whose `semantics` is {semantics!r}: set it to one of {', '.join(SEMANTICS)}, "
            "or to None for the run's."
        )
    return Design(rewards=CheckedDesign(name, rewards), executes=executes, semantics=semantics)


class CheckedDesign:
    """A plug-in whose faults end in a sentence: the group of such a fault carries no reward, and never one of 0."""

    def __init__(self, name: str, rewards: RewardDesign) -> None:
        self._name = name
        self._rewards = rewards

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        try:
            return self._checked(self._rewards(group), len(group.candidates))
        except (GroupUnscorable, GoldUnusable):
            raise
        except (Exception, SystemExit) as fault:
            raise GroupUnscorable(
                f"the reward design {self._name} raised {type(fault).__name__} ({first_line(fault)}) at "
                f"{place_of(fault)}{self._guilty(group, type(fault))}: correct it"
            ) from fault

    def _guilty(self, group: JudgedGroup, kind: type[BaseException]) -> str:
        """Return words for the first candidate that alone has the design raise such an error, empty where none has."""
        for candidate in group.candidates:
            try:
                self._rewards(replace(group, candidates=(candidate,)))
            except (Exception, SystemExit) as fault:
                if type(fault) is kind:  # a design that compares candidates may refuse a lone one in its own way
                    return f" for the candidate {_shown(candidate.sql)}"
        return ""

    def _checked(self, given: object, num_candidates: int) -> list[Reward]:
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != num_candidates:
            found = f"{len(given)} values" if isinstance(given, Sequence) else f"a {type(given).__name__}"
            raise GroupUnscorable(
                f"the reward design {self._name} gave {found} for {num_candidates} candidates: return a list with a "
                "number for each, in their order"
            )
        return [self._reward(one) for one in given]

    def _reward(self, given: object) -> Reward:
        reward = given if isinstance(given, Reward) else Reward(given)  # type: ignore[arg-type]  # checked below
        if not isinstance(reward.terms, Mapping):
            raise GroupUnscorable(
                f"the reward design {self._name} gave terms that are a {type(reward.terms).__name__}: give a mapping "
                "of names to numbers"
            )
        if odd := next((name for name in reward.terms if not TERM_NAME.fullmatch(str(name))), None):
            raise GroupUnscorable(
                f"the reward design {self._name} has a term {odd!r}: name it with letters, digits and _, as metrics are"
            )
        value, terms = _finite(reward.value), {name: _finite(one) for name, one in reward.terms.items()}
        known = {name: one for name, one in terms.items() if one is not None}
        if value is None or len(known) < len(terms):
            raise GroupUnscorable(f"the reward design {self._name} gave {_shown(given)}: give finite numbers")
        return Reward(value, known, str(reward.note), self._weights(reward.weights))

    def _weights(self, given: object) -> dict[str, float]:
        weights = {str(name): _finite(one) for name, one in given.items()} if isinstance(given, Mapping) else None
        known = {name: one for name, one in (weights or {}).items() if one is not None and one >= 0}
        if weights is None or len(known) < len(weights):
            raise GroupUnscorable(
                f"the reward design {self._name} gave the weights {_shown(given)}: give a finite number of at least 0 "
                "for each term"
            )
        return known


def _finite(value: object) -> float | None:
    if not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
