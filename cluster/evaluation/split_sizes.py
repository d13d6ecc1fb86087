"""Says which splits are empty or small, and which share held back would give more (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floe.actors.questions.held_back import hold_back
from floe.cluster.evaluation.plain_words import MIN_QUESTIONS, half_width_points
from floe.cluster.messages import Question

SHARES = (0.1, 0.15, 0.2, 0.25, 0.3)  # more than these would leave less than 40 % for training


def split_warnings(
    splits: Mapping[str, Sequence[Question]], divided: Mapping[tuple[str, ...], Sequence[Question]], seed: int
) -> list[str]:
    """Return a line for each split that is empty, or smaller than MIN_QUESTIONS.

    `divided` has the questions that were divided among some splits; the first of these keeps what the others don't get.
    """
    lines = []
    for name, questions in splits.items():
        num = len(questions)
        shown = f"the split {name} has {num} question{'' if num == 1 else 's'}"
        if not num:
            lines.append(f"the split {name} is empty, and training needs it: {_more(name, num, divided, seed)}")
        elif num < MIN_QUESTIONS and name == "train":
            lines.append(f"{shown}, which is little to learn from: some hundred are a start")
        elif num < MIN_QUESTIONS:
            width = f"the 95 % interval of an accuracy on it reaches up to {half_width_points(num)} points each way"
            lines.append(f"{shown}: {width}; {_more(name, num, divided, seed)}")
    return lines


def _more(name: str, num: int, divided: Mapping[tuple[str, ...], Sequence[Question]], seed: int) -> str:
    """Return what gives the split more questions than `num`."""
    names = next((one for one in divided if name in one[1:]), None)
    if names is None:
        return "give more questions, or correct those in dropped.jsonl"
    sizes = {share: len(hold_back(divided[names], names, share, seed)[name]) for share in SHARES}
    enough = [share for share in SHARES if sizes[share] >= MIN_QUESTIONS]
    best = enough[0] if enough else max(SHARES, key=lambda share: sizes[share])
    if sizes[best] <= num:
        return "give more questions, or correct those in dropped.jsonl"
    return f"--held-out-share {best:g} gives {sizes[best]}{'' if enough else ', and more questions give more'}"
