"""Divides questions so that no split shares a database with another (pure)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from floe.actors.questions.normal_forms import normal_sql
from floe.cluster.messages import Question


def hold_back(
    questions: Sequence[Question], names: Sequence[str], share: float, seed: int
) -> dict[str, tuple[Question, ...]]:
    """Return the questions of each split in `names`, in their order; the first split gets all that the others don't.

    Every other split gets `share` of the databases, at least one, drawn by `seed`. Where there are fewer databases than
    splits, gold queries are divided instead, so that no answer stands in two splits. The first split is never empty
    while there are questions.
    """
    by_database = is_divided_by_database(questions, len(names))
    key_of = {one.question_id: one.database_id if by_database else normal_sql(one.gold_sql[0]) for one in questions}
    keys = sorted(set(key_of.values()))
    random.Random(f"held back/{seed}").shuffle(keys)
    num_others = len(names) - 1
    num_each = min(max(1, round(share * len(keys))), (len(keys) - 1) // num_others if keys else 0)
    split_of_key = {key: names[1 + index // num_each] for index, key in enumerate(keys[: num_others * num_each])}
    return {
        name: tuple(one for one in questions if split_of_key.get(key_of[one.question_id], names[0]) == name)
        for name in names
    }


def is_divided_by_database(questions: Sequence[Question], num_splits: int) -> bool:
    return len({question.database_id for question in questions}) >= num_splits
