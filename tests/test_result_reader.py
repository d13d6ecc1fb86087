"""Result rows for a person: cut, told apart, and brought under the same limits as judging."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from floe.cluster.messages import Outcome
from floe.configs.schema import RewardSection
from floe.reward_service.comparison.shown_result import MAX_CELL_CHARS, MAX_COLUMNS, cell_text
from floe.reward_service.sandbox.result_reader import ResultReader
from tests.score_requests import ENDLESS, LIMIT_S, ONE_OPCODE, make_database


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    make_database(folder)
    with closing(ResultReader(folder, RewardSection(time_limit_s=LIMIT_S), max_rows=2)) as reader:
        yield reader


def test_rows_are_the_first_and_counted_whole(reader):
    (result,) = reader.read("emp", ["SELECT name, id AS number FROM emp ORDER BY id"])
    assert (result.outcome, result.num_rows, result.columns) == (Outcome.MATCH, 3, ("name", "number"))
    assert result.rows == (("Ann", "1"), ("Bob", "2"))


def test_every_cell_becomes_text_that_tells_it_from_others():
    assert [cell_text(cell) for cell in (None, 12, "12", 1.0, "NULL", " 1e3 ", "nan", b"\x00\xff", "")] == [
        None, "12", "'12'", "1.0", "NULL", "' 1e3 '", "'nan'", "x'00ff'", "",
    ]  # fmt: skip
    for long in ("x" * 1000, b"x" * 1000, "1" * 1000):
        assert len(cell_text(long)) == MAX_CELL_CHARS


def test_wide_results_are_cut(reader):
    (result,) = reader.read("emp", ["SELECT " + ", ".join(f"{i} AS c{i}" for i in range(MAX_COLUMNS + 3))])
    assert (result.num_columns, len(result.columns), len(result.rows[0])) == (MAX_COLUMNS + 3, MAX_COLUMNS, MAX_COLUMNS)


def test_odd_cells_of_a_database_arrive(reader):
    (result,) = reader.read("emp", ["SELECT x FROM odd WHERE typeof(x) != 'text' ORDER BY rowid LIMIT 2"])
    assert result.rows == (("x'00ff'",), ("inf",))
    (broken,) = reader.read("emp", ["SELECT x FROM odd LIMIT 1"])
    assert broken.rows == (("ab\udcffc",),)


def test_limits_and_guards_are_those_of_judging(reader):
    statements = [ENDLESS, "DELETE FROM emp", "SELEC", ONE_OPCODE, "SELECT count(*) FROM emp"]
    results = reader.read("emp", statements)
    assert [one.outcome for one in results] == [
        Outcome.TIMEOUT, Outcome.REJECTED, Outcome.SYNTAX_ERROR, Outcome.TIMEOUT, Outcome.MATCH,
    ]  # fmt: skip
    assert all(one.message and not one.rows for one in results[:4])
    assert results[4].rows == (("3",),)


def test_a_missing_database_is_an_outcome(reader):
    (result,) = reader.read("nowhere", ["SELECT 1"])
    assert result.outcome is Outcome.INFRASTRUCTURE
    assert reader.read("emp", []) == []


def test_the_file_is_as_it_was(reader, tmp_path):
    path = make_database(tmp_path, "other")
    before = path.read_bytes()
    with closing(ResultReader(tmp_path, RewardSection(), max_rows=2)) as own:
        own.read("other", ["UPDATE emp SET name = 'x'", "SELECT * FROM emp"])
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM emp WHERE name = 'x'").fetchone() == (0,)
