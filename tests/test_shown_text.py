"""Control characters of others never reach a terminal: shown as escapes by every way of printing."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from floe.cluster.terminal.progress import make_console
from floe.cluster.terminal.shown_text import ShownConsole, say, show_what_cant_be_encoded, visible
from tests.command_line import config, floe
from tests.score_requests import make_database

HOSTILE = "\x1b]0;owned\x07\x1b[2Jname\x9b31m\u202etxt\r\x08"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_nothing_that_controls_is_left_and_nothing_else_is_changed(text: str) -> None:
    shown = visible(text)
    assert not CONTROL.search(shown) and visible(shown) == shown
    shown.encode()
    if not CONTROL.search(text) and text.isprintable():
        assert shown == text


def things() -> list[object]:
    table = Table(HOSTILE, box=box.SIMPLE_HEAD, title=HOSTILE)
    table.add_row(HOSTILE)
    return [HOSTILE, Text(HOSTILE), Text.assemble((HOSTILE, "red")), table, Panel(HOSTILE)]


@pytest.mark.parametrize("number", range(len(things())))
@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_console_shows_them_whatever_it_prints(number: int, is_terminal: bool) -> None:
    file = io.StringIO()
    ShownConsole(file=file, width=100, force_terminal=is_terminal, highlight=False).print(things()[number])
    # The console's own colours.
    printed = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert not CONTROL.search(printed) and "\\x1b]0;owned" in printed


def test_a_said_line_shows_them(capsys) -> None:
    say(HOSTILE)
    say(HOSTILE, to_stderr=True)
    assert not any(CONTROL.search(text) for text in capsys.readouterr())


@pytest.mark.heavy
def test_commands_show_them(tmp_path) -> None:
    """Questions, SQL, errors and names of files are hostile here."""
    make_database(tmp_path, "shop", script=f'CREATE TABLE "{HOSTILE}" (a); INSERT INTO "{HOSTILE}" VALUES (1);')
    questions = [{"question_id": HOSTILE, "db_id": "shop", "question": HOSTILE, "query": "SELECT 1"}]
    (tmp_path / "home").mkdir()
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    (tmp_path / "predictions.jsonl").write_text(
        json.dumps({"question_id": HOSTILE, "sql": f'SELECT "{HOSTILE}".b FROM x'})
    )
    files = ("--questions", str(tmp_path / "questions.json"), "--databases", str(tmp_path))
    calls = [
        ("score", *files, "--predictions", str(tmp_path / "predictions.jsonl")),
        ("score", *files, "--predictions", str(tmp_path / "predictions.jsonl"), "--json"),
        ("score", *files, "--predictions", HOSTILE),
        ("train", "--config", HOSTILE),
        ("plan", f"run.name={HOSTILE}"),
        ("compare", HOSTILE, HOSTILE),
        ("status", HOSTILE),
        ("report", HOSTILE),
        ("runs", HOSTILE),
    ]
    for arguments in calls:
        done = floe(*arguments, home=tmp_path / "home")
        assert not CONTROL.search(done.stdout + done.stderr), (arguments[0], done.stdout, done.stderr)
        assert done.stdout + done.stderr, arguments


@pytest.mark.long
def test_commands_that_read_data_show_them(tmp_path) -> None:
    """Data, descriptions, evaluations and names of folders are hostile here; `/` and NUL can't stand in a name."""
    folder = tmp_path / HOSTILE.replace("/", "")
    databases = folder / "databases"
    databases.mkdir(parents=True)
    columns = f'"{HOSTILE}" TEXT, b INTEGER'
    script = f'CREATE TABLE "{HOSTILE}" ({columns}); CREATE TABLE t ({columns});'
    script += f"INSERT INTO t VALUES ('{HOSTILE}', 1), ('Rex', 2);"
    for name in ("shop", "zoo", "farm"):
        make_database(databases, name, script=script)
        described = databases / name / "database_description"
        described.mkdir()
        (described / f"{HOSTILE}.csv").write_text("original_column_name,column_name\nb,b\n")
    questions = [
        {"question_id": f"{HOSTILE}{name}", "db_id": name, "question": f"{HOSTILE} {name}?", "SQL": sql}
        for name in ("shop", "zoo", "farm")
        for sql in (f'SELECT "{HOSTILE}" FROM t',)
    ]
    questions.append({"question_id": "fails", "db_id": "zoo", "question": "fails?", "SQL": f'SELECT "{HOSTILE}".x'})
    (folder / "questions.json").write_text(json.dumps(questions))
    home = tmp_path / "home"
    home.mkdir()
    prepare = ("prepare", "jsonl", str(folder / "questions.json"), str(databases), str(folder / "out"))
    of_folder = (
        "--config", config("quickstart.yaml"), "data.source=prepared", f"data.prepared={folder / 'out'}",
        "prompt.style=arctic", "prompt.example_values=3", "prompt.descriptions=values",
    )  # fmt: skip
    calls = [
        prepare,
        (*prepare, "--seed", "2"),
        (*prepare, "--json"),
        ("prompt", "--question", f"{HOSTILE}shop", *of_folder),
        ("prompt", "--summary", *of_folder),
        ("prompt", "--question", HOSTILE, *of_folder),
        ("doctor", *of_folder),
        ("runs", str(folder)),
        ("report", str(folder)),
        ("status", str(folder)),
        ("compare", str(folder), str(folder / "out")),
    ]
    for arguments in calls:
        done = floe(*arguments, home=home)
        printed = done.stdout + done.stderr
        assert not CONTROL.search(printed), (arguments[0], printed)
        assert printed, arguments


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_output_can_not_encode_is_shown_as_an_escape(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    show_what_cant_be_encoded()
    say("step ━ of 城市")
    make_console().print(Text("held back ━ 城市"))
    sys.stdout.flush()
    assert written.getvalue() == b"step \\u2501 of \\u57ce\\u5e02\nheld back \\u2501 \\u57ce\\u5e02\n"


def test_a_command_whose_output_is_not_utf_8_ends_well(tmp_path):
    make_database(tmp_path, "db", script="CREATE TABLE t (a)")
    questions = [{"question_id": "é城", "db_id": "db", "question": "?", "query": "SELECT 1"}]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"question_id": "é城", "sql": "SELECT '━'"}) + "\n")
    files = {"questions": "questions.json", "databases": "", "predictions": "predictions.jsonl"}
    arguments = [part for name, place in files.items() for part in (f"--{name}", str(tmp_path / place))]
    done = subprocess.run(
        [sys.executable, "-m", "floe.cluster.cli", "score", *arguments], capture_output=True, check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )  # fmt: skip
    assert done.returncode == 0 and b"\\xe9\\u57ce" in done.stdout + done.stderr, done.stderr
