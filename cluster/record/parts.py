"""The parts of the record in their order, and how they are asked for by name; standard library only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.configs.errors import UserError

LEARNING, BENCHES = "floe.cluster.record.learning_parts", "floe.cluster.record.bench_parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    module: str
    minutes: int  # about, on two cores with AVX-512
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a part gets."""

    home_dir: Path
    work_dir: Path  # of this part; what is in it, an earlier call left
    geoquery_dir: Path | None  # as `floe prepare` wrote it
    is_quick: bool = False


PARTS = (
    Part(name="curve", module=LEARNING, minutes=6, what="the tiny model's mean reward, five seeds"),
    Part(name="quickstart", module=LEARNING, minutes=20, what="the quickstart, seed 1"),
    Part(name="geoquery", module=LEARNING, minutes=30, what="GeoQuery, half of its steps, seed 1"),
    Part(name="learner", module=BENCHES, minutes=8, what="floe bench learner, two shapes, 3 rounds"),
    Part(name="rollout", module=BENCHES, minutes=8, what="floe bench rollout, 3 rounds"),
    Part(name="reward", module=BENCHES, minutes=4, what="floe bench reward"),
    Part(name="sync", module=BENCHES, minutes=4, what="floe bench sync"),
    Part(name="trl", module=BENCHES, minutes=10, what="floe bench trl, 3 steps"),
)


def chosen_parts(text: str) -> tuple[Part, ...]:
    """Return the parts of `curve,trl` or `curve trl` in their own order; all for an empty text. Raises UserError."""
    names, known = text.replace(",", " ").split(), [part.name for part in PARTS]
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"'{unknown[0]}' is not a part of the record: PARTS takes some of {', '.join(known)}.")
    return tuple(part for part in PARTS if not names or part.name in names)


def by_name(name: str) -> Part:
    return next(part for part in PARTS if part.name == name)


def maker_of(part: Part) -> Callable[[Setting], Any]:
    """Import the part's code, in the process that runs it."""
    made: Callable[[Setting], Any] = getattr(importlib.import_module(part.module), part.name)
    return made
