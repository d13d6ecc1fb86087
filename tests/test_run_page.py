"""The contents of a run's page: its numbers, the groups shown, and that no text of the run becomes markup."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.messages import Outcome, QueryResult
from floe.cluster.report_page.browser_data import BrowserData, ShownGroup
from floe.cluster.report_page.evaluation_views import changes, database_rows
from floe.cluster.report_page.rollout_sample import (
    MAX_CANDIDATES,
    MAX_STEPS,
    GroupOutline,
    Kind,
    kind_of,
    sampled_groups,
    sampled_steps,
)
from floe.cluster.report_page.same_sql import CandidateRow, GroupRows, same_sql
from floe.cluster.report_page.script_json import script_json
from floe.cluster.report_page.step_series import bucketed, first_and_last, parse_metrics, running_mean, with_outcomes
from tests.evaluations import IDENTITY, evaluation, record

OUTCOMES = st.sampled_from(list(Outcome))
NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60)


def candidate(i: int, sql: str | None, outcome: Outcome, reward: float | None, **changed) -> CandidateRow:
    fields = {
        "sample_index": i, "completion": sql or "", "sql": sql, "reward": reward, "outcome": outcome, "message": "",
        "num_tokens": 10, "truncated": False,
    }  # fmt: skip
    return CandidateRow(**fields | changed)


def shown_group(step: int, rank: int, *candidates: CandidateRow, question: str = "How many?") -> ShownGroup:
    rows = GroupRows(
        step=step, group_index=rank, question_id="q", database_id="shop", question=question, adapter_version=step - 1,
        candidates=candidates,
    )  # fmt: skip
    return ShownGroup(rows=rows, rank=rank, question=None)


def test_records_become_columns_and_gaps_are_none():
    lines = [
        '{"step": 2, "loss": 0.5, "kl": null, "is_best": true, "groups_by_staleness": [3, 1]}',
        "not JSON",
        '{"no": "step"}',
        '{"step": 1, "loss": 1, "old": 7}',
        '{"step": 3, "loss"',
    ]
    series = parse_metrics("\n".join(lines))
    assert series.steps == (1, 2)
    assert series.column("loss") == (1, 0.5)
    assert series.column("old") == (7, None)
    assert series.column("kl") == series.column("nothing") == (None, None)
    assert series.has("kl", "old") and not series.has("kl", "nothing")
    assert series.groups_by_staleness == ((), (3, 1))
    assert series.num_unreadable == 2


def test_outcomes_of_a_steps_own_candidates_replace_what_was_scored_meanwhile():
    recorded = parse_metrics('{"step": 1, "outcome_match": 9}\n{"step": 2, "outcome_match": 0, "loss": 1}\n')
    series = with_outcomes(recorded, {2: {Outcome.MATCH: 3, Outcome.NO_SQL: 1}})
    assert series.column("outcome_match") == (9, 3)
    assert series.column("outcome_no_sql") == (None, 1)
    assert series.column("outcome_timeout") == (None, 0)
    assert series.column("loss") == (None, 1)


def test_a_step_that_was_done_again_counts_once():
    assert parse_metrics('{"step": 1, "x": 1}\n{"step": 1, "x": 2}\n').column("x") == (2,)


@given(values=NUMBERS, num_points=st.integers(1, 20))
def test_buckets_are_means_of_neighbours(values, num_points):
    found = bucketed(values, num_points)
    assert len(found) == min(len(values), num_points)
    known = [value for value in values if value is not None]
    assert all(min(known) - 1e-6 <= value <= max(known) + 1e-6 for value in found if value is not None)
    if len(values) <= num_points:
        assert found == values


def test_buckets_lose_no_value():
    assert bucketed([1, 2, 3, 4, 5, 6], 3) == [1.5, 3.5, 5.5]
    assert len(bucketed(range(1001), 1000)) == 1000
    assert bucketed([1, None, None, None], 2) == [1, None]


@given(values=NUMBERS, num_steps=st.integers(1, 15))
def test_a_running_mean_stays_within_its_values(values, num_steps):
    found = running_mean(values, num_steps)
    assert len(found) == len(values)
    assert all(one is not None for one, value in zip(found, values, strict=True) if value is not None)


def test_running_mean_and_ends_by_hand():
    assert running_mean([0, 3, 6, None], 3) == [1.5, 3, 4.5, 6]
    assert first_and_last((None,)) is None
    assert first_and_last(tuple(range(20))) == (0.5, 18.5, 2)


@given(counts=st.dictionaries(st.integers(1, 5000), st.integers(1, 2000), min_size=1, max_size=300))
def test_sampled_steps_hold_both_ends(counts):
    steps = sampled_steps(counts)
    assert steps == sorted(set(steps)) and set(steps) <= counts.keys()
    assert {min(counts), max(counts)} <= set(steps)
    if sum(counts.values()) <= MAX_CANDIDATES:
        assert steps == sorted(counts)
    else:
        assert len(steps) == min(len(counts), MAX_STEPS)


def test_sampled_steps_of_a_long_run_are_spread():
    steps = sampled_steps(dict.fromkeys(range(1, 1001), 1024))
    assert steps[:3] == [1, 2, 3] and steps[-3:] == [998, 999, 1000]
    gaps = [after - before for before, after in pairwise(steps[3:-3])]
    assert max(gaps) - min(gaps) <= 1


outlines = st.lists(
    st.builds(
        lambda question_id, outcomes: (question_id, outcomes),
        st.text(max_size=5),
        st.dictionaries(OUTCOMES, st.integers(1, 8), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=30,
).map(
    lambda found: [
        GroupOutline(step=1, group_index=i, question_id=question_id, outcomes=outcomes)
        for i, (question_id, outcomes) in enumerate(found)
    ]
)


@given(found=outlines, max_candidates=st.integers(1, 300))
def test_sampled_groups_are_few_and_of_every_kind(found, max_candidates):
    taken = sampled_groups(found, max_candidates)
    assert taken == sampled_groups(found[::-1], max_candidates), "the order of reading decides nothing"
    assert [one.rank for one in taken] == list(range(len(taken)))
    groups = [one.outline for one in taken]
    assert len({one.group_index for one in groups}) == len(groups)
    if len(groups) > 1:
        assert sum(one.num_candidates for one in groups) <= max_candidates
    if sum(one.num_candidates for one in found) <= max_candidates:
        assert len(groups) == len(found)
    largest = max(one.num_candidates for one in found)
    kinds = {one.kind for one in found}
    if len(kinds) * largest <= max_candidates:
        assert {one.kind for one in groups} == kinds


def test_kinds_of_groups():
    assert kind_of({Outcome.MATCH: 16}) is Kind.ALL_RIGHT
    assert kind_of({Outcome.MATCH: 15, Outcome.GOLD_FAILED: 1}) is Kind.ALL_RIGHT
    assert kind_of({Outcome.MATCH: 1, Outcome.NO_SQL: 15}) is Kind.SOME_RIGHT
    assert kind_of({Outcome.MISMATCH: 1, Outcome.NO_SQL: 15}) is Kind.SOME_RUN
    assert kind_of({Outcome.TIMEOUT: 16}) is Kind.NONE_RUN
    assert kind_of({Outcome.INFRASTRUCTURE: 16}) is Kind.NO_VERDICT


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), OUTCOMES, st.sampled_from([0.0, 0.1, 1.0, None]))))
def test_identical_sql_is_together_and_nobody_is_lost(found):
    together = same_sql([candidate(i, *one) for i, one in enumerate(found)])
    assert sorted(i for one in together for i in one.samples) == list(range(len(found)))
    keys = [(one.sql, one.outcome, one.reward) for one in together]
    assert len(set(keys)) == len(keys)
    assert all(found[i] == key for one, key in zip(together, keys, strict=True) for i in one.samples)
    rewards = [-1 if one.reward is None else one.reward for one in together]
    assert rewards == sorted(rewards, reverse=True)


@given(st.recursive(st.one_of(st.text(), st.integers(), st.none()), lambda inner: st.lists(inner, max_size=3)))
def test_json_for_the_script_survives_and_ends_no_element(value):
    text = script_json(value)
    assert "<" not in text
    text.encode()
    assert json.loads(text) == value


def test_json_for_the_script_refuses_what_no_script_can_read():
    with pytest.raises(ValueError, match="JSON"):
        script_json([float("nan")])


def test_groups_stop_at_their_room_the_highest_ranks_first():
    groups = [
        shown_group(step, rank, candidate(0, f"SELECT '{step} {rank} {'<é' * 900}'", Outcome.MISMATCH, 0.1))
        for step in range(1, 21)
        for rank in range(10)
    ]
    data = BrowserData({}, max_groups_bytes=200_000)
    data.add_groups(groups)
    shown = data.values()["groups"]
    assert 0 < len(shown) < 200 == len(shown) + data.num_left_out
    assert [one["step"] for one in shown] == sorted(one["step"] for one in shown)
    assert set(Counter(one["step"] for one in shown).values()) <= {len(shown) // 20, len(shown) // 20 + 1}
    assert len(script_json(data.values()).encode()) < 200_000 + 20_000


def test_texts_and_results_are_there_once():
    result = QueryResult(outcome=Outcome.MATCH, num_rows=1, num_columns=1, columns=("n",), rows=((None,),))
    data = BrowserData({("shop", "SELECT 1"): result})
    row = candidate(0, "SELECT 1", Outcome.MISMATCH, 0.1)
    data.add_groups([shown_group(1, 0, row), shown_group(2, 0, replace(row, sample_index=1))])
    values = data.values()
    assert len(values["questions"]) == len(values["results"]) == 1
    assert [one["candidates"][0]["result"] for one in values["groups"]] == [0, 0]
    assert values["results"][0]["rows"] == [[None]]
    assert "completion" not in values["groups"][0]["candidates"][0], "it says no more than the SQL"


def test_databases_are_compared_on_the_questions_of_both():
    before = evaluation(record("a", False), record("b", True), record("c", True, database_id="zoo"), record("x", True))
    after = evaluation(record("a", True), record("b", True), record("c", False, database_id="zoo"), record("y", True))
    shop, zoo = database_rows(before, after, 100)
    assert (shop.database_id, shop.num_questions, shop.before.mean, shop.after.mean) == ("shop", 2, 0.5, 1.0)
    assert (zoo.num_questions, zoo.difference.mean) == (1, -1.0)
    (alone, zoo) = database_rows(None, after, 100)
    assert (alone.num_questions, alone.before, alone.difference) == (3, None, None)


def test_changes_name_the_answers_before_and_after():
    found = changes(evaluation(record("a", False), record("b", True)), evaluation(record("a", True), record("b", True)))
    assert [one.question_id for one in found.gained] == ["a"]
    assert (found.gained[0].before[1], found.gained[0].after[1]) == (Outcome.MISMATCH, Outcome.MATCH)
    assert (found.lost, found.num_questions, found.test.p_value) == ((), 2, 1.0)
    assert re.match("SELECT", found.gained[0].after[0])
    assert IDENTITY.num_samples == 4
