"""The designs that execution alone decides, with totals by hand, and the scorer's use of any design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.arctic import Arctic
from floe.reward_service.designs.interface import Design, JudgedCandidate, JudgedGroup, Reward
from floe.reward_service.designs.sql_r1 import SqlR1, length_term
from floe.reward_service.scorer import Scorer
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable
from tests.score_requests import make_database

FORMED = "<think>{thought}</think><answer>{answer}</answer>"
SQL = "SELECT name FROM singer"


def judged(outcome: Outcome, completion: str | None = None, sql: str | None = SQL) -> JudgedCandidate:
    return JudgedCandidate(outcome=outcome, sql=sql, completion=completion)


def group_of(*candidates: JudgedCandidate) -> JudgedGroup:
    return JudgedGroup(question="who?", evidence="", database_id="music", gold_sql=(SQL,), candidates=candidates)


def value(design, outcome: Outcome, completion: str | None = None, sql: str | None = SQL) -> float:
    (reward,) = design(group_of(judged(outcome, completion, sql)))
    return reward.value


@pytest.mark.parametrize(
    ("outcome", "plain", "floored"),
    [
        (Outcome.MATCH, 1.0, 1.0),
        (Outcome.MISMATCH, 0.1, 0.1),
        (Outcome.SYNTAX_ERROR, 0.0, 0.1),
        (Outcome.RUNTIME_ERROR, 0.0, 0.1),
        (Outcome.TIMEOUT, 0.0, 0.1),
    ],
)
def test_arctic_and_its_successors_floor(outcome: Outcome, plain: float, floored: float) -> None:
    reply = f"<think>easy</think>{SQL}"
    assert value(Arctic(), outcome, reply) == plain
    assert value(Arctic(format_floor=True), outcome, reply) == floored


@pytest.mark.parametrize(
    "reply",
    [SQL, f"</think><think>{SQL}", f"<think>a</think><think>b</think>{SQL}", f"<think>never closed {SQL}", None],
)
def test_the_floor_is_for_well_formed_replies(reply: str | None) -> None:
    assert value(Arctic(format_floor=True), Outcome.RUNTIME_ERROR, reply) == 0.0


def test_the_floor_wants_some_sql() -> None:
    assert value(Arctic(format_floor=True), Outcome.NO_SQL, "<think>a</think>", sql=None) == 0.0


# 8 characters of thought; the answer is 7 + 23 + 4 = 34 characters, of which 23 are the SQL.
REPLY = FORMED.format(thought="one join", answer=f"```sql\n{SQL}\n```")
LENGTH = 0.5 * (8 + 34) / 2048 + 23 / 34


def test_the_length_term_by_hand() -> None:
    assert len(f"```sql\n{SQL}\n```") == 34
    assert length_term(REPLY) == pytest.approx(LENGTH)


@pytest.mark.parametrize(
    ("outcome", "code", "paper"),
    [
        (Outcome.MATCH, 6 + LENGTH, 6 + LENGTH),
        (Outcome.MISMATCH, 0.0, LENGTH),
        (Outcome.RUNTIME_ERROR, -1.0, -1 + LENGTH),
        (Outcome.TIMEOUT, -1.0, -1 + LENGTH),
    ],
)
def test_sql_r1_totals(outcome: Outcome, code: float, paper: float) -> None:
    assert value(SqlR1("code"), outcome, REPLY) == pytest.approx(code)
    assert value(SqlR1("paper"), outcome, REPLY) == pytest.approx(paper)


@pytest.mark.parametrize(
    "reply",
    [
        SQL,
        f"<think>a</think><answer>{SQL}</answer>",  # no fence
        f"<answer>```sql\n{SQL}\n```</answer><think>a</think>",
        f"<think>a</think><think>b</think><answer>```sql\n{SQL}\n```</answer>",
        f"<think>a</think><answer>```sql\n{SQL}\n```",  # never closed
        f"<think>```sql\n{SQL}\n```</think><answer>it is above</answer>",
        "<think>a</think><answer>```sql\n\n```</answer>",
    ],
)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_a_broken_format_is_worth_minus_one_whatever_the_sql_gives(
    reply: str, variant: Literal["code", "paper"]
) -> None:
    design = SqlR1(variant)
    assert value(design, Outcome.MATCH, reply) == -1.0
    assert value(design, Outcome.RUNTIME_ERROR, reply) == -1.0


@given(
    thought=st.text(st.characters(exclude_characters="<>`"), max_size=5000),
    before=st.text(st.characters(exclude_characters="<>`"), max_size=3000),
)
def test_sql_r1_stays_in_its_range(thought: str, before: str) -> None:
    reply = FORMED.format(thought=thought, answer=f"{before}```sql\n{SQL}\n```")
    length = length_term(reply)
    assert length is not None and 0 < length <= 1.5
    (reward,) = SqlR1("code")(group_of(judged(Outcome.MATCH, reply)))
    assert reward.value == pytest.approx(6 + length)
    assert sum(reward.terms.values()) == pytest.approx(reward.value)


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    make_database(
        tmp_path,
        "music",
        script="CREATE TABLE singer (name TEXT, age INTEGER);"
        "INSERT INTO singer VALUES ('Ann', 3), ('Bo', 4), ('Bo', 4)",
    )
    return tmp_path


def ask(section: RewardSection, databases: Path, completions: Sequence[str], **fields) -> tuple[Score, ...]:
    request = ScoreRequest(
        question_id="q",
        database_id="music",
        gold_sql=("SELECT name, age FROM singer",),
        candidates=tuple(Candidate(completion=text) for text in completions),
        **fields,
    )
    with closing(Scorer(databases, section)) as scorer:
        return scorer.score(request)


def fenced(sql: str) -> str:
    return FORMED.format(thought="so", answer=f"```sql\n{sql}\n```")


SWAPPED, FEWER, FAILING = (
    "SELECT age, name FROM singer",
    "SELECT DISTINCT name, age FROM singer",
    "SELECT x FROM singer",
)


def test_sql_r1_judges_by_its_own_comparator_and_evaluation_by_the_runs(databases: Path) -> None:
    section = RewardSection(design="sql_r1")
    replies = [fenced(sql) for sql in (SWAPPED, FEWER, FAILING)]
    trained = ask(section, databases, replies)
    assert [score.outcome for score in trained] == [Outcome.MATCH, Outcome.MISMATCH, Outcome.RUNTIME_ERROR]
    assert [round(score.reward or 0) for score in trained[1:]] == [0, -1]
    assert trained[0].reward is not None and trained[0].reward > 6
    assert trained[0].terms is not None and sum(trained[0].terms.values()) == pytest.approx(trained[0].reward)
    evaluated = ask(section, databases, replies, correctness_only=True)
    assert [score.outcome for score in evaluated] == [Outcome.MISMATCH, Outcome.MATCH, Outcome.RUNTIME_ERROR]
    assert [score.reward for score in evaluated] == [0.1, 1.0, 0.0]


class Unscorable:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        raise self._error


@pytest.fixture
def with_design(databases: Path, monkeypatch) -> Iterator:
    def scores(design: Design, completions: Sequence[str], **fields) -> tuple[Score, ...]:
        monkeypatch.setattr("floe.reward_service.scorer.make_design", lambda *_: design)
        return ask(RewardSection(), databases, completions, **fields)

    return scores


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GroupUnscorable("the judge is down"), Outcome.INFRASTRUCTURE),
        (GoldUnusable("no plan of the gold"), Outcome.GOLD_FAILED),
    ],
)
def test_a_design_that_cannot_judge_masks_the_whole_group(with_design, error: Exception, outcome: Outcome) -> None:
    scores = with_design(Design(rewards=Unscorable(error)), [SQL, "no idea"])
    assert [score.outcome for score in scores] == [outcome] * 2
    assert all(score.reward is None and str(error) in score.message for score in scores)


def test_a_design_that_runs_nothing_sees_what_is_not_executed(with_design) -> None:
    seen: list[JudgedGroup] = []

    def by_length(group: JudgedGroup) -> list[Reward]:
        seen.append(group)
        return [Reward(len(one.sql or "")) for one in group.candidates]

    design = Design(rewards=by_length, executes=False)
    scores = with_design(design, [SQL, "no idea", "SELECT 1; DELETE FROM singer"], question="who?", evidence="none")
    assert [score.outcome for score in scores] == [Outcome.NOT_EXECUTED, Outcome.NO_SQL, Outcome.REJECTED]
    assert [score.reward for score in scores[:2]] == [len(SQL), 0]
    assert all(score.seconds == 0 for score in scores)
    assert seen[0].question == "who?" and seen[0].evidence == "none"
    evaluated = with_design(design, [SQL], correctness_only=True)
    assert evaluated[0].outcome is Outcome.MISMATCH
