"""`floe compare`: McNemar's test, paired differences, what changed, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from floe.cluster.evaluation.paired_comparison import MAY_DIFFER, compare_evaluations, mcnemar
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER, TRAINED
from floe.cluster.evaluation.seed_comparison import compare_seeds
from floe.cluster.operations.compare import compare, evaluation_path
from floe.configs.errors import UserError
from tests.evaluations import IDENTITY, evaluation, record


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test_of_the_changed_questions(num_gained, num_lost):
    num_changed = num_gained + num_lost
    expected = binomtest(num_gained, num_changed).pvalue if num_changed else 1.0
    assert mcnemar(num_gained, num_lost).p_value == pytest.approx(expected, rel=1e-9)


BEFORE = evaluation(record("a", True, 4), record("b", False, 0), record("c", True, 1), record("d", False, 3))
AFTER = evaluation(
    record("d", True, 4), record("c", False, 1), record("b", True, 2), record("x", True),
    identity=dataclasses.replace(IDENTITY, adapter="run 7", seed=2, model="tiny in float32"), num_asked=4,
)  # fmt: skip


def test_questions_are_paired_by_id_and_named_where_they_changed():
    report = compare_evaluations(BEFORE, AFTER, ("A", "B"), 200)
    assert (report.num_questions, report.num_left_out) == (3, 1)
    assert report.differences["greedy"].mean == pytest.approx((1 - 1 + 1) / 3)
    assert report.differences["mean of 4"].mean == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert [one.question_id for one in report.gained] == ["b", "d"]
    assert [(one.question_id, one.sql_before) for one in report.lost] == [("c", "SELECT 'c'")]
    test = report.tests["greedy"]
    assert (test.num_gained, test.num_lost, test.p_value) == (2, 1, 1.0)
    assert (report.tests["vote, soft"].num_gained, report.tests["vote, soft"].num_lost) == (1, 0)


def test_the_table_fits_100_columns_and_says_what_changed():
    console = Console(file=io.StringIO(), width=100)
    compare_evaluations(BEFORE, AFTER, ("before", "after"), 200).render(console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "2 questions now right" in text and "b (shop): Which b?" in text and "1 questions now wrong" in text


def test_seeds_are_compared_one_by_one_and_in_the_mean():
    other = evaluation(
        record("a", False, 0), record("b", True, 4), record("c", True, 1), record("x", True), num_asked=4
    )
    report = compare_seeds([BEFORE], [AFTER, other], ["A"], ["one", "two"], 200)
    assert [one.b for one in report.by_seed] == ["one", "two"]
    assert report.num_questions == 2  # b and c: AFTER lacks a, the other d
    assert report.mean["greedy"].mean == pytest.approx((1 + (0.5 - 1)) / 2)
    assert report.mean["mean of 4"].mean == pytest.approx((0.75 + 0.25) / 2 - 0.125)


def test_several_evaluations_on_the_command_line_may_be_compressed(tmp_path, capsys):
    paths = []
    for name, one in (("before", BEFORE), ("seed1", AFTER), ("seed2", AFTER)):
        packed = tmp_path / f"{name}.json.gz"
        packed.write_bytes(gzip.compress(one.write(tmp_path / name).read_bytes()))
        paths.append(packed)
    assert compare(paths[0], paths[1:], as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mean"] == told["by_seed"][0]["differences"] == told["by_seed"][1]["differences"]
    assert compare(paths[0], paths[1:], as_json=False) == 0
    shown = capsys.readouterr().out
    assert f"B2: {paths[2]}\n" in shown and max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= 100
    paths[1].write_bytes(b"\x1f\x8b cut")
    with pytest.raises(UserError, match="holds no evaluation"):
        compare(paths[0], paths[1:], as_json=True)


def test_pairs_of_seeds_are_compared_each_with_its_own_and_in_the_mean():
    first = evaluation(record("a", False, 0), record("b", True, 4), record("c", False, 0), num_asked=3)
    second = evaluation(record("a", True, 4), record("b", False, 0), record("c", False, 0), num_asked=3)
    report = compare_seeds([first, second], [second, second], ["A1", "A2"], ["B1", "B2"], 200)
    assert [(one.a, one.b) for one in report.by_seed] == [("A1", "B1"), ("A2", "B2")]
    assert [one.differences["greedy"].mean for one in report.by_seed] == [0.0, 0.0]
    assert report.mean["greedy"].mean == pytest.approx(0.0)  # a +1/2 and b -1/2
    better = compare_seeds([first, second], [second, first], ["A1", "A2"], ["B1", "B2"], 200)
    assert better.mean["greedy"].mean == pytest.approx(0.0) and better.mean["greedy"].low == 0.0
    gained = compare_seeds([first, first], [second, first], ["A1", "A1"], ["B1", "B2"], 200)
    assert gained.mean["greedy"].low < 0 < gained.mean["greedy"].high


def test_pairs_on_the_command_line_are_even_in_number(tmp_path, capsys):
    before, after = BEFORE.write(tmp_path / "before"), AFTER.write(tmp_path / "after")
    assert compare(before, [after, before, after], as_json=False, in_pairs=True) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("B to its A") and f"B2: {after}, to {before}\n" in shown
    with pytest.raises(UserError, match="--pairs got 3 evaluations"):
        compare(before, [after, before], as_json=False, in_pairs=True)


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(IDENTITY) if one.name not in MAY_DIFFER])
def test_what_was_not_asked_and_judged_alike_is_not_compared_and_the_difference_is_named(field):
    other = dataclasses.replace(IDENTITY, **{field: "another" if isinstance(getattr(IDENTITY, field), str) else 99})
    with pytest.raises(UserError, match=r"can't be compared: .* differ \(.+ and (another|99)\)"):
        compare_evaluations(BEFORE, evaluation(record("a", True), identity=other), ("A", "B"), 200)


def test_without_a_common_question_there_is_nothing_to_compare():
    with pytest.raises(UserError, match="no question in common"):
        compare_evaluations(BEFORE, evaluation(record("z", True)), ("A", "B"), 200)


def test_folders_of_runs_and_of_evaluations_are_read(tmp_path, capsys):
    BEFORE.write(tmp_path / "saved")
    AFTER.write(tmp_path / "run" / EVALUATIONS_FOLDER / TRAINED)
    compare(tmp_path / "saved", [tmp_path / "run"], True)
    report = json.loads(capsys.readouterr().out)
    assert report["tests"]["greedy"] == {"num_gained": 2, "num_lost": 1, "p_value": 1.0}
    with pytest.raises(UserError, match="no evaluation in"):
        evaluation_path(tmp_path)
