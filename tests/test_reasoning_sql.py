"""The reward of Reasoning-SQL: totals by hand, what no wrong query may earn, and what the plain sum allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.bench.reward.query_variants import mutated, rewritten
from floe.cluster.bench.reward.reasoning_bench import Pairs, bench_reasoning
from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup
from floe.reward_service.designs.reasoning_sql import ReasoningSql
from floe.reward_service.judge.judge_protocol import JudgedQuery
from floe.reward_service.reading.forms import Form, reader_of
from floe.reward_service.reading.schema_reader import Schema
from floe.reward_service.scorer import Scorer
from floe.reward_service.unscorable import GroupUnscorable
from floe.reward_service.verdict import DatabaseUnavailable
from tests.score_requests import make_database

SCHEMA: Schema = {"singer": {"id": "", "name": "", "age": ""}, "song": {"title": "", "singer_id": ""}}
GOLD = "SELECT name FROM singer"
OTHER_GOLD = "SELECT title FROM song"
TAGGED = "<think>so</think><answer>```sql\n{sql}\n```</answer>"
JUDGED = {"design": "reasoning_sql", "judge_url": "http://127.0.0.1:1/v1", "judge_model": "judge"}


class Grades:
    """A judge that gives each query the same grade, and records what it was asked."""

    def __init__(self, score: float) -> None:
        self._score = score
        self.asked: list[JudgedQuery] = []

    def __call__(self, queries: Sequence[JudgedQuery]) -> list[float]:
        self.asked += queries
        return [self._score] * len(queries)


def design_of(judge: Grades | None, **fields: object) -> ReasoningSql:
    weight = {} if judge else {"reasoning_judge_weight": 0}
    read = reader_of("parts", SCHEMA)
    section = RewardSection.model_validate({**JUDGED, **weight, **fields})
    return ReasoningSql(section, lambda _, texts: {sql: read(sql) for sql in texts}, judge)


def judged(outcome: Outcome, sql: str | None, *, has_tags: bool = True) -> JudgedCandidate:
    return JudgedCandidate(outcome=outcome, sql=sql, completion=TAGGED.format(sql=sql) if has_tags else sql)


def group_of(*candidates: JudgedCandidate, gold: tuple[str, ...] = (GOLD,)) -> JudgedGroup:
    return JudgedGroup(question="who?", evidence="", database_id="music", gold_sql=gold, candidates=candidates)


# Items {singer, singer.name} and {singer, singer.age}: 1 of 3. Bigrams of 4 tokens, the second one other: 1 of 5.
NEAR = "SELECT T1.age FROM singer AS T1"


@pytest.mark.parametrize(
    ("outcome", "sql", "has_tags", "full", "plain"),
    [
        (Outcome.MATCH, GOLD, True, 3 + 2 + 1 + 1 + 1 + 1, 3 + 1 + 1 + 1 + 1 + 1),
        (Outcome.MATCH, GOLD, False, 3 + 2 + 1 + 1 + 1, 3 + 1 + 1 + 1 + 1),
        (Outcome.MATCH, NEAR, True, 3 + 2 + 1 + 1 + 1 + 1, 3 + 1 + 1 + 1 / 3 + 1 / 5 + 1),
        (Outcome.MISMATCH, NEAR, True, 1 + 1 + 1 / 3 + 1 / 5 + 1, 1 + 1 + 1 / 3 + 1 / 5 + 1),
        (Outcome.RUNTIME_ERROR, NEAR, True, 1 + 1 / 3 + 1 / 5 + 1, 1 + 1 / 3 + 1 / 5 + 1),
        (Outcome.TIMEOUT, OTHER_GOLD, False, 1.0, 1.0),
        (Outcome.SYNTAX_ERROR, "SELEC", True, 1 + 1, 1 + 1),
        (Outcome.REJECTED, "DELETE FROM singer", True, 1, 1),
        (Outcome.NO_SQL, None, False, 0, 0),
    ],
)
def test_totals_with_a_judge_that_grades_one_half(
    outcome: Outcome, sql: str | None, has_tags: bool, full: float, plain: float
) -> None:
    group = group_of(judged(outcome, sql, has_tags=has_tags))
    for reading, expected in (("full_when_right", full), ("sum", plain)):
        (reward,) = design_of(Grades(0.5), reasoning_partial_terms=reading)(group)
        assert reward.value == pytest.approx(expected), reading
        assert sum(reward.terms.values()) == pytest.approx(reward.value)


def test_weights_are_the_configurations() -> None:
    weights = {f"reasoning_{name}_weight": weight for name, weight in WEIGHTS.items()}
    (reward,) = design_of(Grades(0.5), **weights)(group_of(judged(Outcome.MISMATCH, NEAR)))
    assert reward.terms == pytest.approx(
        {"execution": 0.0, "judge": 10.0, "syntax": 0.5, "schema": 3.0, "ngram": 2.0, "format": 0.25}
    )


WEIGHTS = {"execution": 7, "judge": 20, "syntax": 0.5, "schema": 9, "ngram": 10, "format": 0.25}


def test_the_best_of_several_golds_counts_and_the_judge_sees_all() -> None:
    judge = Grades(0.0)
    wrong = judged(Outcome.MISMATCH, OTHER_GOLD)
    (reward,) = design_of(judge)(group_of(wrong, gold=(GOLD, OTHER_GOLD, "no SQL at all")))
    assert reward.terms["schema"] == reward.terms["ngram"] == 1.0
    assert judge.asked[0].gold_sql == (GOLD, OTHER_GOLD, "no SQL at all")
    (reward,) = design_of(judge)(group_of(wrong, gold=("no SQL at all",)))
    assert reward.terms["schema"] == reward.terms["ngram"] == 0.0


def test_whom_the_judge_is_asked_about() -> None:
    group = group_of(
        judged(Outcome.MATCH, GOLD),
        judged(Outcome.MISMATCH, NEAR),
        judged(Outcome.RUNTIME_ERROR, "SELECT nam FROM singer"),
        judged(Outcome.REJECTED, "DELETE FROM singer"),
        judged(Outcome.NO_SQL, None),
        judged(Outcome.MISMATCH, "SELECT '" + "x" * 6000 + "'"),
    )
    judge = Grades(1.0)
    assert [reward.terms["judge"] for reward in design_of(judge)(group)] == [2, 2, 2, 0, 0, 0]
    assert [query.sql for query in judge.asked] == [NEAR, "SELECT nam FROM singer"]
    judge = Grades(1.0)
    design_of(judge, reasoning_partial_terms="sum")(group)
    assert [query.sql for query in judge.asked] == [GOLD, NEAR, "SELECT nam FROM singer"]
    assert all(reward.terms["judge"] == 0 for reward in design_of(None)(group)[1:])


def test_a_database_that_cannot_be_read_masks_the_group() -> None:
    def gone(*_: object) -> dict[str, Form]:
        raise DatabaseUnavailable("the disk is gone")

    design = ReasoningSql(RewardSection.model_validate({**JUDGED, "reasoning_judge_weight": 0}), gone, None)
    with pytest.raises(GroupUnscorable, match="the disk is gone"):
        design(group_of(judged(Outcome.MATCH, GOLD)))


WRONG_OUTCOMES = [one for one in Outcome if one.carries_reward and one is not Outcome.MATCH]
SQLS = st.sampled_from(
    [GOLD, NEAR, OTHER_GOLD, "SELECT * FROM singer", "SELEC", f"WITH a AS ({GOLD}) SELECT * FROM a", *mutated(NEAR)]
)
CASES = st.tuples(st.sampled_from(WRONG_OUTCOMES), SQLS, SQLS, st.floats(0, 1), st.booleans())


@given(CASES, st.sampled_from([(GOLD,), (OTHER_GOLD, NEAR)]))
def test_no_wrong_query_outscores_a_right_one_where_that_has_all_terms_in_full(case, gold: tuple[str, ...]) -> None:
    outcome, wrong, right, score, has_tags = case
    group = group_of(
        judged(outcome, wrong, has_tags=has_tags), judged(Outcome.MATCH, right, has_tags=has_tags), gold=gold
    )
    of_wrong, of_right = design_of(Grades(score))(group)
    assert 0 <= of_wrong.value <= of_right.value - 3
    assert of_right.value == (9 if has_tags else 8)


def test_a_judge_needs_an_address_and_a_weight_of_nothing_none() -> None:
    with pytest.raises(UserError, match=r"reward\.reasoning_judge_weight=0"):
        load_config(None, ["reward.design=reasoning_sql"])
    with pytest.raises(UserError, match=r"judge_url.*address"):
        load_config(None, ["reward.design=reasoning_sql", "reward.judge_url=nowhere", "reward.judge_model=m"])
    assert not load_config(None, ["reward.design=reasoning_sql", "reward.reasoning_judge_weight=0"]).reward.asks_judge


def test_the_scorer_gives_the_totals_of_a_real_database(tmp_path: Path) -> None:
    script = "CREATE TABLE singer (id, name, age); INSERT INTO singer VALUES (1, 'Ann', 3), (2, 'Bo', 4)"
    make_database(tmp_path, "music", script=script)
    section = RewardSection(design="reasoning_sql", reasoning_judge_weight=0)
    replies = [TAGGED.format(sql=sql) for sql in (GOLD, NEAR, "SELECT x FROM singer")]
    request = ScoreRequest(
        question_id="q",
        database_id="music",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(completion=reply) for reply in replies),
    )
    with closing(Scorer(tmp_path, section)) as scorer:
        right, near, failing = scorer.score(request)
    assert right.reward == 3 + 1 + 1 + 1 + 1
    assert near.reward == pytest.approx(1 + 1 / 3 + 1 / 5 + 1)
    assert failing.terms == pytest.approx(
        {"execution": 0, "judge": 0, "syntax": 0, "schema": 1 / 3, "ngram": 1 / 5, "format": 1}
    )


def test_pairs_are_counted_by_hand() -> None:
    pairs = Pairs(right=(6.0, 4.5), wrong=(3.0, 2.0))
    assert pairs.num == 4
    assert [pairs.num_outscored(lead) for lead in (0.0, 1.5, 2.0, 3.5)] == [0, 0, 1, 3]


def test_variants_of_a_query() -> None:
    assert set(mutated("SELECT max(age) FROM singer WHERE id > 1 ORDER BY name")) == {
        "SELECT MAX(age) FROM singer ORDER BY name",
        "SELECT MAX(age) FROM singer WHERE id > 1 ORDER BY name DESC",
        "SELECT MIN(age) FROM singer WHERE id > 1 ORDER BY name",
        "SELECT MAX(age) FROM singer WHERE id >= 1 ORDER BY name",
        "SELECT MAX(age) FROM singer WHERE id > 2 ORDER BY name",
    }
    assert mutated("no SQL (") == []
    assert rewritten("SELECT 1;")[0] == "SELECT * FROM (SELECT 1) AS answer"


def counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[dict]:
    """Return the counts for 40 questions, by the judge's error."""
    monkeypatch.setattr("floe.cluster.bench.reward.reasoning_bench.NUM_QUESTIONS", 40)
    bench_reasoning(load_config(None, list(overrides)), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["questions"] > 30 and printed["pairs"] > 500
    return printed["outscored"]


def test_under_the_plain_sum_only_an_erring_judge_lets_a_wrong_query_win(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    """Use Spider's golds and their variants; 3 + 1 against 1 + 2 x error + 2: nothing up to an error of one half."""
    spider = shared_data / "spider"
    files = [f"data.questions={spider / 'dev.json'}", f"data.databases={spider / 'databases'}"]
    rows = counted(capsys, monkeypatch, "data.source=files", *files)
    assert [row["same_format"] for row in rows[:3]] == [0, 0, 0]
    assert rows[-1]["same_format"] > 0
    assert rows[-1]["right_one_without_format"] >= rows[-1]["same_format"]
