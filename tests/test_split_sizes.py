"""Warnings about splits: which are small or empty, and that the share that is offered gives what it says."""

from __future__ import annotations

import re

import pytest

from floe.actors.questions.held_back import hold_back
from floe.cluster.evaluation.plain_words import half_width_points
from floe.cluster.evaluation.split_sizes import split_warnings
from floe.cluster.messages import Question

SPLITS = ("train", "tune", "test")


def questions(number: int) -> list[Question]:
    return [
        Question(question_id=str(i), database_id="shop", text=f"{i}?", gold_sql=(f"SELECT a{i} FROM t",))
        for i in range(number)
    ]


def warnings_of(number: int, share: float = 0.1) -> list[str]:
    asked = questions(number)
    return split_warnings(hold_back(asked, SPLITS, share, seed=1), {SPLITS: asked}, seed=1)


def test_splits_of_enough_questions_are_not_spoken_of():
    assert warnings_of(300) == []


@pytest.mark.parametrize(("number", "share"), [(120, 0.25), (160, 0.2), (290, 0.15)])
def test_a_small_split_is_said_with_the_share_that_gives_enough(number, share):
    tune, test = warnings_of(number)
    num_now = round(0.1 * number)
    found = re.fullmatch(r"the split test has (\d+) questions: .* up to (\d+) points each way; "
                         r"--held-out-share (\S+) gives (\d+)", test)  # fmt: skip
    assert (int(found[1]), int(found[2])) == (num_now, half_width_points(num_now))
    assert tune.startswith(f"the split tune has {num_now} questions")
    assert float(found[3]) == share
    assert len(hold_back(questions(number), SPLITS, share, seed=1)["test"]) == int(found[4]) >= 30


def test_where_no_share_gives_enough_the_best_is_said():
    train, _, test = warnings_of(20)
    assert train == "the split train has 16 questions, which is little to learn from: some hundred are a start"
    assert test.endswith("--held-out-share 0.3 gives 6, and more questions give more")
    assert warnings_of(20, 0.3)[2].endswith("give more questions, or correct those in dropped.jsonl")


def test_an_empty_split_is_said_with_what_to_do():
    assert warnings_of(1)[1:] == [
        f"the split {name} is empty, and training needs it: give more questions, or correct those in dropped.jsonl"
        for name in ("tune", "test")
    ]


def test_a_split_with_a_file_of_its_own_gets_no_share():
    (line,) = split_warnings({"test": questions(5)}, {("train", "tune"): questions(100)}, seed=1)
    assert "44 points each way; give more questions" in line
