"""Kinds of databases: CSV folders and those of a plug-in, built once by what they are made of, or refused."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from floe.actors.sources.built_databases import BuiltDatabases
from floe.actors.sources.csv_database import CsvDatabases
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.plugins.checks import check_plugins
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from tests.test_cli import run_floe

MODULE = """
import sqlite3
from contextlib import closing

class Scripts:
    def __init__(self, suffix=".sql", does="right"):
        self.suffix, self.does = suffix, does

    def find(self, folder, db_id):
        if self.does == "finds no path":
            return db_id
        found = folder / f"{db_id}{self.suffix}"
        return found if found.exists() else None

    def build(self, source, target):
        if self.does == "nothing":
            return
        if self.does == "text":
            target.write_text("CREATE TABLE")
            return
        script = "" if self.does == "no table" else source.read_text()
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript("PRAGMA user_version=1;" + script)

class NoBuild:
    def find(self, folder, db_id):
        return None
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "their_kind.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("their_kind", None)


def built(folder: Path, files: dict[str, str | bytes]) -> tuple[str, list[tuple]]:
    """Return the statements and the rows of the database made of CSV files of this content."""
    source = folder / "d"
    source.mkdir(exist_ok=True)
    for name, content in files.items():
        (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    target = folder / "built.sqlite"
    target.unlink(missing_ok=True)
    CsvDatabases().build(source, target)
    with closing(sqlite3.connect(target)) as connection:
        statements = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master ORDER BY name")]
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        rows = [row for name in names for row in connection.execute(f'SELECT * FROM "{name}"')]
    return "; ".join(statements), rows


# A column's cells, its type in SQLite, and the values that are kept.
COLUMNS = {
    "integers": (["1", "-20", "0", ""], "INTEGER", [1, -20, 0, None]),
    "reals": (["1", "-2.50", "1e-05", "3.5E+2"], "REAL", [1.0, -2.5, 1e-05, 350.0]),
    "leading zeros": (["007", "12"], "TEXT", ["007", "12"]),
    "a plus sign": (["+1", "2"], "TEXT", ["+1", "2"]),
    "minus zero": (["-0", "1"], "TEXT", ["-0", "1"]),
    "a code that looks like a number": (["1E5", "2"], "TEXT", ["1E5", "2"]),
    "more digits than 64 bits": (["9223372036854775808"], "TEXT", ["9223372036854775808"]),
    "the largest integer": (["9223372036854775807"], "INTEGER", [9223372036854775807]),
    "an integer that a real would change": (["9007199254740993", "0.5"], "TEXT", ["9007199254740993", "0.5"]),
    "more than a real holds": (["1.0e999"], "TEXT", ["1.0e999"]),
    "a space": ([" 1", "2"], "TEXT", [" 1", "2"]),
    "other digits": (["\u0661", "2"], "TEXT", ["\u0661", "2"]),
    "nothing": (["", ""], "TEXT", [None, None]),
    "words": (["NULL", "nan", "true"], "TEXT", ["NULL", "nan", "true"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_has_the_narrowest_type_that_keeps_every_cell(tmp_path, name):
    cells, kind, values = COLUMNS[name]
    statements, rows = built(tmp_path, {"t.csv": "x,last\n" + "".join(f"{one},a\n" for one in cells)})
    assert statements == f'CREATE TABLE "t" ("x" {kind}, "last" TEXT)'
    assert [one for one, _ in rows] == values


def test_odd_files_are_read_as_they_are(tmp_path):
    statements, rows = built(
        tmp_path,
        {
            "Order Items.CSV": b'\xef\xbb\xbfid, Home Town,sel"ect\r\n1,"Rome, ""old""\r\ntown",x\r\n\r\n2,,\r\n',
            "empty.csv": "only,names",
            ".hidden.csv": "x",
            "notes.txt": "no table",
        },
    )
    assert statements == (
        'CREATE TABLE "Order Items" ("id" INTEGER, " Home Town" TEXT, "sel""ect" TEXT); '
        'CREATE TABLE "empty" ("only" TEXT, "names" TEXT)'
    )
    assert rows == [(1, 'Rome, "old"\r\ntown', "x"), (2, None, None)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n1\n", "has 1 cells in the row that ends in line 3, but 2 columns"),
        ('a,b\n"x\ny",2\n1,2,3\n', "has 3 cells in the row that ends in line 4, but 2 columns"),
        ("", "is empty"),
        ("a,,b\n", "has no name for its column 2"),
        ("a,A\n", "has the columns 'a' and 'A', one name to SQLite"),
        ("a;b\n1;2\n", "separates its columns by semicolons"),
        ('a,b\n"1,2\n', "is no CSV after line"),
        (b"a,b\n1,2\n\xe4,3\n", "is not UTF-8 text (byte 0xe4"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, content, said):
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as refused:
        built(tmp_path, {"t.csv": content})
    assert said in str(refused.value) and str(tmp_path / "d" / "t.csv") in str(refused.value)


def test_two_files_of_one_table_and_a_name_that_sqlite_keeps_are_refused(tmp_path):
    with pytest.raises(UserError, match="would be the same table"):
        built(tmp_path, {"a.csv": "x", "A.csv": "x"})
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="reserved for internal use"):
        built(tmp_path / "other", {"sqlite_x.csv": "x\n1\n"})
    (tmp_path / "null").mkdir()
    with pytest.raises(UserError, match="SQLite can't make a table of"):
        built(tmp_path / "null", {"t.csv": "a\0b,c\n1,2\n"})


def questions_of(folder: Path, *database_ids: str) -> Path:
    records = [
        {"db_id": one, "question": f"What is {number}?", "query": f"SELECT {number} FROM t"}
        for one in database_ids
        for number in range(10)
    ]
    (folder / "questions.json").write_text(json.dumps(records))
    return folder / "questions.json"


def configured(folder: Path, kind: str, *overrides: str):
    return load_config(
        None,
        [
            "data.source=files", f"data.questions={folder}/questions.json", f"data.databases={folder}/data",
            f"data.database_kind={kind}", f"run.home={folder}/home", *overrides,
        ],
    )  # fmt: skip


def test_databases_are_built_once_and_again_when_their_content_changes(folder):
    for name in ("a", "b"):
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "t.csv").write_text(f"x\n{name}\n")
    (folder / "data" / "a" / "database_description").mkdir()
    questions_of(folder, "a", "b")
    config, said = configured(folder, "csv"), []
    first = sets_of_run(config, said.append).databases_dir
    assert said == [f"building database {one} of 2, kind csv: {name}" for one, name in ((1, "a"), (2, "b"))]
    with closing(sqlite3.connect(first / "b" / "b.sqlite")) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == [("b",)]
    assert (first / "a" / "database_description").is_dir()
    assert sets_of_run(config, said.append).databases_dir == first and len(said) == 2
    (folder / "data" / "b" / "t.csv").write_text("x\n5\n")
    second = sets_of_run(config, said.append).databases_dir
    assert said[2:] == ["building database 1 of 1, kind csv: b"] and second != first
    with closing(sqlite3.connect(first / "b" / "b.sqlite")) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == [("b",)]  # another run may still read it


def test_a_kind_of_ones_own_builds_and_its_code_and_arguments_decide(folder):
    (folder / "data").mkdir()
    (folder / "data" / "a.sql").write_text("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    questions_of(folder, "a")
    said = []
    config = configured(folder, "their_kind:Scripts")
    assert check_plugins(config) == [f"data.database_kind their_kind:Scripts from {folder}/their_kind.py"]
    first = sets_of_run(config, said.append)
    assert len(first.train) == 8 and (first.databases_dir / "a" / "a.sqlite").is_file()
    sets_of_run(configured(folder, "their_kind:Scripts", "data.database_arguments.suffix=.sql"), said.append)
    (folder / "their_kind.py").write_text(MODULE + "\n")
    sets_of_run(config, said.append)
    assert said == ["building database 1 of 1, kind their_kind:Scripts: a"] * 3
    assert not list((folder / "home" / "built_databases").glob("*.writing*"))


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("nothing", "build(...) has written no file"),
        ("text", "is no SQLite file"),
        ("no table", "the file has no table"),
        ("finds no path", "whose find(...) returned 'a'"),
    ],
)
def test_what_a_kind_builds_is_checked(folder, does, said):
    (folder / "data").mkdir()
    (folder / "data" / "a.sql").write_text("CREATE TABLE t (x)")
    questions_of(folder, "a")
    with pytest.raises(UserError, match=r"^data.database_kind is 'their_kind:Scripts', [^\n]+\.$") as refused:
        sets_of_run(configured(folder, "their_kind:Scripts", f"data.database_arguments.does={does}"))
    assert said in str(refused.value)
    assert not list((folder / "home").rglob("*.sqlite"))


def test_faults_of_a_kind_and_of_its_databases_are_said_in_one_sentence(folder):
    (folder / "data").mkdir()
    (folder / "data" / "a.sql").write_text("CREATE TABL t (x)")
    questions_of(folder, "a")
    with pytest.raises(UserError, match=r"whose build\(\.\.\.\) raised OperationalError .* at .*their_kind.py:\d+"):
        sets_of_run(configured(folder, "their_kind:Scripts"))
    questions_of(folder, "c")
    with pytest.raises(UserError, match=r"1 databases of .*questions.json are not in .*data, the first is 'c'"):
        sets_of_run(configured(folder, "their_kind:Scripts"))
    with pytest.raises(ConfigError, match="it has no build"):
        check_plugins(configured(folder, "their_kind:NoBuild"))
    with pytest.raises(UserError, match="SQLite files already"):
        sets_of_run(load_config(None, ["data.database_kind=csv", f"run.home={folder}/home"]))


def test_one_database_alone_is_built_for_a_question_about_it(folder):
    (folder / "data" / "a").mkdir(parents=True)
    (folder / "data" / "a" / "t.csv").write_text("x\n1\n")
    config = configured(folder, "csv")
    file = BuiltDatabases(config.data, folder / "home", None, print).file(folder / "data" / "a", "a")
    assert file.name == "a.sqlite" and file.is_file()


def test_score_judges_on_folders_of_csv_files(folder, capsys, monkeypatch):
    (folder / "data" / "a").mkdir(parents=True)
    (folder / "data" / "a" / "t.csv").write_text("x,y\n1,007\n")
    records = [{"db_id": "a", "question_id": 0, "question": "Which?", "query": "SELECT y FROM t"}]
    (folder / "questions.json").write_text(json.dumps(records))
    (folder / "sql.jsonl").write_text(json.dumps({"question_id": 0, "sql": "SELECT '007'"}))
    monkeypatch.setenv("FLOE_HOME", str(folder / "home"))
    files = ("--questions", folder / "questions.json", "--databases", folder / "data", "--database-kind", "csv")
    code, out, err = run_floe(capsys, monkeypatch, "score", *files, "--predictions", folder / "sql.jsonl", "--json")
    assert code == 0 and json.loads(out)["outcome"] == "match"
    assert "building database 1 of 1, kind csv: a" in err
