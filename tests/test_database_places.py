"""One way to find a database, for all commands and roles."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from floe.cluster.databases.places import database_path, expected_path, find_database
from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.databases import suite_paths
from floe.reward_service.scorer import Scorer

PLACES = {
    "as it is": "zoo/zoo.sqlite",
    "db": "zoo/zoo.db",
    "sqlite3": "zoo/zoo.sqlite3",
    "flat": "zoo.sqlite",
    "flat, db": "zoo.db",
    "other case": "Zoo/ZOO.sqlite3",
    "only one of its folder": "zoo/zoo_template.sqlite",
    "doubled folder": "train_databases/zoo/zoo.sqlite",
    "nested twice": "database/databases/zoo/zoo.sqlite",
}


def made(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE pet (n INT); INSERT INTO pet VALUES ({value});")
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_database_is_found_and_judged_however_it_lies(tmp_path, place):
    path = made(tmp_path / PLACES[place])
    made(tmp_path / "farm.sqlite")
    assert find_database(tmp_path, "zoo") == path
    request = ScoreRequest(
        question_id="q", database_id="zoo", gold_sql=("SELECT n FROM pet",), candidates=(Candidate(sql="SELECT 1"),)
    )
    with closing(Scorer(tmp_path, RewardSection())) as scorer:
        assert scorer.score(request)[0].outcome is Outcome.MATCH


def test_an_exact_name_comes_first(tmp_path):
    made(tmp_path / "ZOO" / "zoo.db")
    exact = made(tmp_path / "zoo" / "zoo.sqlite")
    assert find_database(tmp_path, "zoo") == exact


def test_a_line_break_in_an_id_is_none_of_a_file(tmp_path):
    path = made(tmp_path / "__oil" / "__oil.sqlite")
    assert find_database(tmp_path, "__\noil") == path


def test_one_that_is_not_there(tmp_path):
    assert find_database(tmp_path, "zoo") is None
    assert database_path(tmp_path, "zoo") == expected_path(tmp_path, "zoo")


@pytest.mark.parametrize("name", ["", ".", "..", "../zoo", "a/b", "a\\b", "a\0"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="plain name"):
        find_database(tmp_path, name)


def test_databases_that_lie_flat_are_not_each_others_contents(tmp_path):
    zoo = made(tmp_path / "zoo.sqlite")
    made(tmp_path / "farm.sqlite")
    assert suite_paths(tmp_path, None, "zoo") == [zoo]
    own = made(tmp_path / "pond" / "pond.sqlite")
    other = made(tmp_path / "pond" / "pond_2.sqlite")
    assert suite_paths(tmp_path, None, "pond") == [own, other]
