"""The arms that an ablation compares: each a reward design or a variant of one (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from floe.configs.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An arm; `overrides` are all that it differs in from the other arms."""

    name: str
    overrides: tuple[str, ...]


def arms_of(rewards: Sequence[str], variants: Sequence[str]) -> tuple[Arm, ...]:
    """Return the arms of `--rewards` and `--variant NAME: key=value key=value`. Raises UserError."""
    arms = [Arm(name=_short(name), overrides=(f"reward.design={name}",)) for name in rewards]
    for variant in variants:
        name, colon, text = variant.partition(":")
        overrides = tuple(text.split())
        if not colon or not overrides or not all("=" in one for one in overrides):
            raise UserError(
                f"--variant {variant!r} is not a variant: write a name, a colon and what it sets, as in "
                "'arctic+std: reward.design=arctic algorithm.advantage_scale=std'."
            )
        arms.append(Arm(name=name.strip(), overrides=overrides))
    for arm in arms:
        if not NAME.fullmatch(arm.name):
            raise UserError(f"{arm.name!r} can't name an arm: use letters, digits and _ . + -, as in arctic+std.")
    if not arms:
        raise UserError("An ablation needs arms: give --rewards or --variant, as in --rewards arctic,sql_r1.")
    names = [arm.name for arm in arms]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"Two arms are called {repeated!r}: name each once.")
    return tuple(arms)


def _short(reward: str) -> str:
    """Return the arm's name of a reward: of a plug-in `package.module:Name` the last part, which can name a folder."""
    return reward.rpartition(":")[2]
