"""The cells of a benchmark table: kept when finished, done again when broken off or of other inputs, never mixed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from floe.cluster.benchmark_table import rows as rows_module
from floe.cluster.benchmark_table.cell_store import CELL_FILE, CellStore
from floe.cluster.benchmark_table.rows import Row, key_of
from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.configs.errors import LostError, UserError
from tests.benchmark_tables import (
    BASE,
    PLACES,
    TRAINED,
    FakeAnswers,
    config,
    filled,
    row_of_set,
    rows_of_two_sets,
)
from tests.command_line import REPOSITORY
from tests.preloaded.python import preloaded_python

ALL = [("pets", "base"), ("pets", "trained"), ("shop", "base"), ("shop", "trained")]


def notes_of(folder: Path) -> str:
    return folder.with_suffix(".txt").read_text()


def test_a_finished_table_asks_nothing_again_and_starts_no_engine(tmp_path):
    first, second = FakeAnswers(), FakeAnswers()
    before = filled(tmp_path / "table", rows_of_two_sets(tmp_path), first)
    after = filled(tmp_path / "table", rows_of_two_sets(tmp_path), second)
    assert (first.asked, first.opened_for) == (ALL, [["base", "trained"]])
    assert (second.asked, second.opened_for) == ([], [])
    assert after.num_kept == 4 and after.evaluations == before.evaluations


def test_each_cell_is_a_saved_evaluation(tmp_path):
    done = filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    for place in ALL:
        path = CellStore(tmp_path / "table").cell_folder(*place) / EVALUATION_FILE
        assert read_evaluation(path) == done.evaluations[place]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    command = [preloaded_python(), "-m", "tests.benchmark_tables", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, timeout=300, check=True)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_call_goes_on_with_the_cell_that_was_broken_off(killed, place):
    folder = killed / place
    store = CellStore(folder / "table")
    kept = [store.cell_folder(*one) / CELL_FILE for one in ALL[:2]]
    before = [path.stat().st_mtime_ns for path in kept]
    assert (store.cell_folder("shop", "base") / EVALUATION_FILE).exists() is (place == "saving")
    answers = FakeAnswers()
    done = filled(folder / "table", rows_of_two_sets(folder), answers)
    assert answers.asked == ALL[2:] and answers.opened_for == [["base", "trained"]]
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert sorted(done.evaluations) == sorted(ALL) and not done.has_faults


def other_question(row: Row) -> Row:
    first, *others = row.asked.questions
    questions = (replace(first, gold_sql=("SELECT 2",)), *others)
    return replace(row, asked=replace(row.asked, questions=questions))


def with_reward(row: Row, **changes: object) -> Row:
    reward = row.config.reward.model_copy(update=changes)
    return replace(row, config=row.config.model_copy(update={"reward": reward}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_question, "the questions"),
        (lambda row: with_reward(row, semantics="strict"), "the comparator, the configuration"),
        (lambda row: with_reward(row, max_rows=7), "the configuration"),
        (lambda row: with_reward(row, clock="2020-01-01 00:00:00"), "the clock"),
    ],
)
def test_a_cell_of_other_inputs_is_done_anew_and_the_change_is_named(tmp_path, change, said):
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    pets, shop = rows_of_two_sets(tmp_path)
    answers = FakeAnswers()
    filled(tmp_path / "table", [change(pets), shop], answers)
    assert answers.asked == ALL[:2]
    assert f"pets, base: done anew, because {said} changed" in notes_of(tmp_path / "table")


def test_another_adapter_under_the_same_name_is_asked_anew_and_the_base_model_is_not(tmp_path):
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    answers = FakeAnswers()
    filled(
        tmp_path / "table", rows_of_two_sets(tmp_path), answers, columns=(BASE, replace(TRAINED, digest="adapter 2"))
    )
    assert answers.asked == [ALL[1], ALL[3]] and answers.opened_for == [["trained"]]
    assert "done anew, because the adapter changed" in notes_of(tmp_path / "table")


def test_another_version_of_the_harness_does_every_cell_anew(tmp_path, monkeypatch):
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    real = rows_module.evaluation_identity
    monkeypatch.setattr(rows_module, "evaluation_identity", lambda *a: replace(real(*a), harness_version=99))
    answers = FakeAnswers()
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), answers)
    assert answers.asked == ALL
    assert "because floe's harness changed" in notes_of(tmp_path / "table")


def test_changed_cells_are_given_up_before_the_first_is_filled_so_that_none_are_mixed(tmp_path):
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())

    def stop(place):
        raise KeyboardInterrupt

    pets, shop = (with_reward(one, semantics="strict") for one in rows_of_two_sets(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "table", [pets, shop], FakeAnswers(before=stop))
    assert [CellStore(tmp_path / "table").key(*place) for place in ALL] == [None] * 4


def test_a_damaged_cell_is_done_again(tmp_path):
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers())
    path = CellStore(tmp_path / "table").cell_folder("shop", "base") / EVALUATION_FILE
    path.write_text(path.read_text().replace('"num_asked": 2', '"num_asked": 3'))
    answers = FakeAnswers()
    done = filled(tmp_path / "table", rows_of_two_sets(tmp_path), answers)
    assert answers.asked == [("shop", "base")] and done.evaluations["shop", "base"].num_asked == 2


def test_a_data_set_or_a_policy_that_fails_leaves_the_others_alone(tmp_path):
    def fail(place):
        if place == ("pets", "trained"):
            raise UserError("The adapter has another rank: give one of rank 16.")

    broken = Row(benchmark=row_of_set(tmp_path, "gone", 1).benchmark, config=config(), fault="There is no folder.")
    missing = replace(TRAINED, policy=TRAINED.policy.model_copy(update={"name": "lost"}), fault="There is no adapter.")
    answers = FakeAnswers(before=fail)
    rows = [broken, *rows_of_two_sets(tmp_path)]
    done = filled(tmp_path / "table", rows, answers, columns=(BASE, TRAINED, missing))
    assert answers.asked == ALL
    assert sorted(done.evaluations) == [ALL[0], ALL[2], ALL[3]]
    assert done.faults == {
        ("pets", "trained"): "The adapter has another rank: give one of rank 16.",
        ("pets", "lost"): "There is no adapter.",
        ("shop", "lost"): "There is no adapter.",
    }
    assert done.has_faults
    stored = CellStore(tmp_path / "table").table()
    assert stored.faults["gone"] == "There is no folder." and stored.faults["shop/lost"] == "There is no adapter."
    again = FakeAnswers()
    assert filled(tmp_path / "table", rows_of_two_sets(tmp_path), again).num_kept == 3
    assert again.asked == [("pets", "trained")]
    assert CellStore(tmp_path / "table").table().faults == {}


def test_a_lost_engine_ends_the_call_and_the_finished_cells_stay(tmp_path):
    def lose(place):
        if place == ("shop", "base"):
            raise LostError("The engine was lost.")

    with pytest.raises(LostError):
        filled(tmp_path / "table", rows_of_two_sets(tmp_path), FakeAnswers(before=lose))
    again = FakeAnswers()
    filled(tmp_path / "table", rows_of_two_sets(tmp_path), again)
    assert again.asked == ALL[2:]


def test_a_folder_of_something_else_or_in_use_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a benchmark table"):
        CellStore(tmp_path / "other").open()
    store = CellStore(tmp_path / "used")
    store.open()
    with pytest.raises(UserError, match="Another process fills the table"):
        CellStore(tmp_path / "used").open()
    store.close()
    CellStore(tmp_path / "used").open()


def test_a_field_of_the_prompt_that_changes_no_prompt_changes_no_key(tmp_path):
    row = row_of_set(tmp_path, "pets", 2)
    prompt = row.config.prompt.model_copy(update={"evidence": False})
    same = replace(row, config=row.config.model_copy(update={"prompt": prompt}))
    assert key_of(row, BASE) == key_of(same, BASE)
    other = prompt.model_copy(update={"style": "arctic"})
    other_style = replace(row, config=row.config.model_copy(update={"prompt": other}))
    assert key_of(row, BASE).configuration != key_of(other_style, BASE).configuration


def test_the_key_knows_the_context_that_a_prompt_has_to_fit(tmp_path):
    row = row_of_set(tmp_path, "pets", 2)
    model = row.config.model.model_copy(update={"max_context_tokens": 64})
    other = replace(row, config=row.config.model_copy(update={"model": model}))
    assert key_of(row, BASE).answers != key_of(other, BASE).answers
