"""Options of what a bench measures (pure): ways, shapes and rounds; by default everything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from floe.cluster.bench.learner.learner_cases import GROUP_SIZE, Case
from floe.configs.errors import UserError

SHAPE = re.compile(r"(\d+)/(\d+)(?:x(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The options `--ways`, `--shapes` and `--rounds`; what is empty or None is chosen by the bench."""

    ways: tuple[str, ...] = ()
    shapes: tuple[Case, ...] = ()
    num_rounds: int | None = None

    def wants(self, way: str) -> bool:
        return not self.ways or way in self.ways


EVERYTHING = Choice()


def chosen(names: Mapping[str, str], ways: str | None, shapes: str | None, num_rounds: int | None) -> Choice:
    """Return the choice from the options' text. `names` maps the ways' short names to their full ones.

    Raises UserError for a way or a shape that can't be read.
    """
    asked = _items(ways)
    if unknown := [name for name in asked if name not in names]:
        raise UserError(f"'{unknown[0]}' is not a way of this bench: --ways takes some of {', '.join(names)}.")
    return Choice(
        ways=tuple(names[name] for name in asked),
        shapes=tuple(dict.fromkeys(_shape(text) for text in _items(shapes))),
        num_rounds=num_rounds,
    )


def _items(text: str | None) -> Sequence[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _shape(text: str) -> Case:
    found = SHAPE.fullmatch(text)
    numbers = [] if found is None else [int(number or GROUP_SIZE) for number in found.groups()]
    if not numbers or min(numbers) < 1:
        raise UserError(
            f"'{text}' is not a shape: --shapes takes prompt/completion tokens, and x and the group's size where it "
            f"is not {GROUP_SIZE}, as in 150/24,600/60x8."
        )
    prompt, completion, size = numbers
    return Case(prompt_tokens=prompt, completion_tokens=completion, group_size=size)
