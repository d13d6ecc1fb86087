"""The figures of a benchmark table, what is printed of it, and the comparison of two."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from floe.cluster.benchmark_table.cell_store import CellStore
from floe.cluster.benchmark_table.comparison import compare_tables
from floe.cluster.benchmark_table.printed import print_table
from floe.cluster.benchmark_table.rows import Row
from floe.cluster.benchmark_table.table import BenchmarkTable, nothing_answered, table_of
from floe.cluster.operations.compare import compare
from floe.configs.errors import UserError
from tests.benchmark_tables import (
    BASE,
    RIGHT,
    TRAINED,
    FakeAnswers,
    config,
    filled,
    row_of_set,
    rows_of_two_sets,
)


def table(tmp_path: Path, answers: FakeAnswers | None = None, rows: list[Row] | None = None, columns=(BASE, TRAINED)):
    rows = rows_of_two_sets(tmp_path) if rows is None else rows
    done = filled(tmp_path / "table", rows, answers or FakeAnswers(), columns)
    return table_of(done, num_samples=4, num_resamples=500, seed=1)


def printed(made: BenchmarkTable) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_table(made, console)
    return console.file.getvalue()


def broken_row(tmp_path: Path) -> Row:
    return Row(benchmark=row_of_set(tmp_path, "gone", 1).benchmark, config=config(), fault="There is no folder X.")


def test_figures_by_hand(tmp_path):
    made = table(tmp_path)
    pets, shop = made.rows
    base, trained = pets.cells
    assert (pets.num_questions, pets.num_left_out, pets.semantics) == (4, 0, "bird")
    assert (base.figures["greedy"].mean, trained.figures["greedy"].mean) == (0.25, 0.75)
    assert trained.figures["mean of 4"].mean == trained.figures["pass@4"].mean == 0.75
    assert base.differences == {}
    assert trained.differences["greedy"].interval.mean == 0.5
    assert [one.figures["greedy"].mean for one in shop.cells] == [0.5, 0.5]
    unchanged = shop.cells[1].differences["greedy"]
    assert (unchanged.interval.low, unchanged.interval.high, unchanged.resolves) == (0, 0, 1.0)
    base, trained = made.macro.cells
    assert (base.figures["greedy"].mean, trained.figures["greedy"].mean) == (0.375, 0.625)
    assert trained.differences["greedy"].interval.mean == 0.25
    assert (made.macro.num_questions, made.macro_of) == (6, ("pets", "shop"))
    assert not made.has_faults


def test_columns_are_over_the_questions_that_all_policies_have_a_verdict_on(tmp_path):
    made = table(tmp_path, FakeAnswers(without_verdict={("pets", "base"): {0}}))
    pets = made.rows[0]
    assert (pets.num_questions, pets.num_left_out) == (3, 1)
    assert [one.figures["greedy"].mean for one in pets.cells] == [0, pytest.approx(2 / 3)]
    assert pets.cells[0].left_out == ("pets-0: gold_failed",)
    assert made.macro.num_left_out == 1
    assert "pets, base: no usable verdict on pets-0: gold_failed" in printed(made)


def test_questions_that_no_policy_has_a_verdict_on_are_named_once(tmp_path):
    silent = {("pets", "base"): {0, 3}, ("pets", "trained"): {0, 3}}
    text = printed(table(tmp_path, FakeAnswers(without_verdict=silent)))
    assert text.count("no usable verdict") == 1
    assert "pets: no usable verdict on pets-0: gold_failed, and 1 more in --json" in text


def test_a_question_that_a_later_policy_has_no_verdict_on_is_left_out_too(tmp_path):
    made = table(tmp_path, FakeAnswers(without_verdict={("pets", "trained"): {0}}))
    assert [one.figures["greedy"].mean for one in made.rows[0].cells] == [0, pytest.approx(2 / 3)]
    assert made.rows[0].num_left_out == 1


def test_a_row_or_policy_that_failed_says_so_and_is_not_in_the_average(tmp_path):
    missing = replace(TRAINED, policy=TRAINED.policy.model_copy(update={"name": "lost"}), fault="There is no adapter.")

    def fail(place):
        if place == ("shop", "trained"):
            raise UserError("The engine can't serve it.")

    rows = [broken_row(tmp_path), *rows_of_two_sets(tmp_path)]
    made = table(tmp_path, FakeAnswers(before=fail), rows, (BASE, TRAINED, missing))
    assert made.has_faults and made.macro_of == ("pets",)
    assert made.rows[2].cells[0].figures["greedy"].mean == 0.5
    text = printed(made)
    for line in (
        "gone: There is no folder X.",
        "shop, trained: The engine can't serve it.",
        "lost: There is no adapter.",
        "The macro average is over 1 of 3 data sets, each with the same weight.",
    ):
        assert f"{line}\n" in text
    assert "pets, lost" not in text
    shown = json.loads(made.to_json())
    assert shown["has_faults"] is True
    assert [row["fault"] for row in shown["rows"]] == ["There is no folder X.", None, None]
    assert shown["rows"][2]["cells"][1]["fault"] == "The engine can't serve it."


def test_sets_with_few_questions_are_marked_and_it_fits_100_columns(tmp_path):
    many = {("large", "base"): set(range(0, 40, 2)), ("large", "trained"): set(range(40))}
    rows = [row_of_set(tmp_path, "large", 40), *rows_of_two_sets(tmp_path)]
    made = table(tmp_path, FakeAnswers(right=RIGHT | many), rows)
    assert [row.is_small for row in made.rows] == [False, True, True]
    text = printed(made)
    assert max(map(len, text.splitlines())) <= 100
    assert "pets *" in text and "large *" not in text and "* fewer than 30 questions" in text
    assert [f"{one}: execution accuracy" in text for one in ("greedy", "mean of 4", "pass@4", "vote, exact")] == [
        True
    ] * 4
    assert "+50.0 [+" in text and "macro average" in text


def test_greedy_answers_alone_have_one_table(tmp_path):
    done = filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    text = printed(table_of(done, num_samples=0, num_resamples=100, seed=1))
    assert text.count("execution accuracy") == 1 and "greedy: execution accuracy" in text


def test_a_table_without_any_answer_is_an_error_that_names_the_first_fault(tmp_path):
    assert nothing_answered(table(tmp_path)) is None
    empty = table(tmp_path, rows=[broken_row(tmp_path)])
    assert "There is no folder X." in str(nothing_answered(empty)) and empty.macro is None


@pytest.fixture
def two_tables(tmp_path) -> tuple[Path, Path]:
    filled(tmp_path / "a", rows_of_two_sets(tmp_path), FakeAnswers())
    better = RIGHT | {("pets", "base"): {0, 1, 2}, ("more", "base"): set(), ("more", "trained"): set()}
    rows = [*rows_of_two_sets(tmp_path), row_of_set(tmp_path, "more", 1)]
    filled(tmp_path / "b", rows, FakeAnswers(right=better))
    return tmp_path / "a", tmp_path / "b"


def test_two_tables_are_compared_by_data_set_and_on_average(two_tables):
    compared = compare_tables(*two_tables, 200)
    base, trained = compared.pairs
    assert (base.a_policy, base.b_policy, trained.a_policy) == ("base", "base", "trained")
    assert {name: one.differences["greedy"].mean for name, one in base.by_set.items()} == {"pets": 0.5, "shop": 0}
    assert (base.macro["greedy"].interval.mean, trained.macro["greedy"].interval.mean) == (0.25, 0)
    assert base.by_set["pets"].tests["greedy"].num_gained == 2
    assert (compared.only_in_a, compared.only_in_b) == ((), ("more",))
    console = Console(file=io.StringIO(), width=100)
    compared.render(console)
    text = console.file.getvalue()
    sentence = f"Only {two_tables[1]} has the data sets more."  # as long as the folder's name
    assert max(len(line) for line in text.splitlines() if line != sentence) <= 100
    assert "has the data sets more." in " ".join(text.split()) and "macro average" in text and "+50.0" in text


def test_compare_on_the_command_line_takes_tables_and_single_cells(two_tables, capsys):
    a, b = two_tables
    assert compare(a, [b], True) == 0
    assert json.loads(capsys.readouterr().out)["only_in_b"] == ["more"]
    cells = [CellStore(one).cell_folder("pets", "base") for one in (a, b)]
    assert compare(cells[0], cells[1:], True) == 0
    assert json.loads(capsys.readouterr().out)["differences"]["greedy"]["mean"] == 0.5


def test_a_cell_that_is_missing_or_was_judged_otherwise_is_named_and_the_others_are_compared(two_tables, tmp_path):
    a, b = two_tables
    CellStore(b).drop("shop", "trained")
    pets, shop = rows_of_two_sets(tmp_path)
    strict = shop.config.reward.model_copy(update={"semantics": "strict"})
    shop = replace(shop, config=shop.config.model_copy(update={"reward": strict}))
    filled(tmp_path / "c", [pets, shop], FakeAnswers())
    base, trained = compare_tables(a, b, 100).pairs
    assert base.faults == {} and "has no finished cell of trained" in trained.faults["shop"]
    others = compare_tables(a, tmp_path / "c", 100)
    assert all("the comparator differ" in one.faults["shop"] for one in others.pairs) and others.has_faults
    assert all(list(one.by_set) == ["pets"] for one in others.pairs)
    assert compare(a, [tmp_path / "c"], True) == 3


def test_tables_without_a_common_set_or_policy_are_refused(two_tables, tmp_path):
    a, _ = two_tables
    none = FakeAnswers(right={("large", "base"): set()})
    filled(tmp_path / "other", [row_of_set(tmp_path, "large", 2)], none, (BASE,))
    with pytest.raises(UserError, match="share no name of a data set"):
        compare_tables(a, tmp_path / "other", 100)
    renamed = replace(BASE, policy=BASE.policy.model_copy(update={"name": "mine"}))
    answers = FakeAnswers(right={("pets", "mine"): {0}, ("shop", "mine"): {0}})
    filled(tmp_path / "mine", rows_of_two_sets(tmp_path), answers, (renamed,))
    with pytest.raises(UserError, match="no policy of the same name"):
        compare_tables(a, tmp_path / "mine", 100)
    filled(tmp_path / "single", rows_of_two_sets(tmp_path), FakeAnswers(), (BASE,))
    (pair,) = compare_tables(tmp_path / "single", tmp_path / "mine", 100).pairs
    assert (pair.a_policy, pair.b_policy) == ("base", "mine")
    shutil.rmtree(tmp_path / "single")
    with pytest.raises(UserError, match="There is no benchmark table in"):
        compare_tables(a, tmp_path / "single", 100)
