"""The questions of an evaluation that asks fewer than there are (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from floe.cluster.messages import Question

Choice = Literal["first", "spread"]


def chosen_questions(questions: Sequence[Question], max_questions: int, choice: Choice) -> list[Question]:
    """Return at most `max_questions` in their order: the first ones, or ones at equal distances over all of them.

    Benchmarks list their questions by database: the first ones are those of a few databases.
    """
    number = min(max_questions, len(questions))
    if choice == "first":
        return list(questions[:number])
    return [questions[index * len(questions) // number] for index in range(number)]
