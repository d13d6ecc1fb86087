"""A file of column meanings describes what no description file does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from floe.actors.databases.contained_databases import read_schema
from floe.actors.databases.schemas import ColumnName
from floe.actors.prompting.descriptions import Description, read_descriptions
from tests.score_requests import make_database

SCRIPT = "CREATE TABLE pet (id INTEGER, pet_name TEXT); INSERT INTO pet VALUES (1, 'Rex')"
NAME = ColumnName("pet", "pet_name")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "train_databases").mkdir()
    make_database(tmp_path / "train_databases", "zoo", script=SCRIPT)
    return tmp_path / "train_databases" / "zoo" / "zoo.sqlite"


@pytest.mark.parametrize("place", [".", "train_databases"])
@pytest.mark.parametrize("name", ["train_column_meaning.json", "column_meaning.json"])
def test_a_file_beside_the_databases_describes_their_columns(tmp_path, database, place, name):
    meanings = {
        "zoo|PET|pet name": "# what it is\ncalled",
        "park|pet|id": "of another database",
        "zoo|pet|wings": "none",
    }
    path = tmp_path / place / name
    path.write_text(json.dumps(meanings))
    found = read_descriptions(database, read_schema(database, 0))
    assert found.by_column == {NAME: Description(text="what it is called", values="")}
    assert found.unmatched == (f"{path}: database 'zoo' has no column 'wings' in a table 'pet'",)


def test_what_a_description_file_says_goes_first(tmp_path, database):
    (tmp_path / "column_meaning.json").write_text(
        json.dumps({"zoo|pet|pet_name": "# of all", "zoo|pet|id": "its number"})
    )
    folder = database.parent / "database_description"
    folder.mkdir()
    heading = "original_column_name,column_name,column_description,data_format,value_description\n"
    (folder / "pet.csv").write_text(f"{heading}pet_name,,its own,text,never empty\nid,,,integer,from 1 on\n")
    found = read_descriptions(database, read_schema(database, 0)).by_column
    assert found[NAME] == Description(text="its own", values="never empty")
    assert found[ColumnName("pet", "id")] == Description(text="its number", values="from 1 on")


@pytest.mark.parametrize("content", [b"[1, 2]", b"{", b'"x"', b"[" * 200_000, b"\xff\xfe{"], ids=range(5))
def test_a_file_that_is_none_is_said_and_ends_nothing(tmp_path, database, content):
    path = tmp_path / "column_meaning.json"
    path.write_bytes(content)
    found = read_descriptions(database, read_schema(database, 0))
    assert not found.by_column and len(found.unmatched) == 1 and found.unmatched[0].startswith(f"{path}: can't be read")


def test_entries_of_another_form_are_passed_over(tmp_path, database):
    (tmp_path / "column_meaning.json").write_text(json.dumps({"zoo|pet": "x", "zoo|pet|id": None, "a|b|c|d": "y"}))
    found = read_descriptions(database, read_schema(database, 0))
    assert not found.by_column and not found.unmatched


def test_databases_without_folders_of_their_own_are_described_too(tmp_path, database):
    flat = database.rename(tmp_path / "train_databases" / "other.sqlite")
    (tmp_path / "train_databases" / "column_meaning.json").write_text(json.dumps({"other|pet|id": "in it"}))
    (tmp_path / "column_meaning.json").write_text(json.dumps({"other|pet|pet_name": "beside it"}))
    found = read_descriptions(flat, read_schema(flat, 0)).by_column
    assert {name: one.text for name, one in found.items()} == {ColumnName("pet", "id"): "in it", NAME: "beside it"}
