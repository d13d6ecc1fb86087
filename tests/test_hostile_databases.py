"""Databases that would freeze or fill a process that opens them: each ends with a sentence, and others go on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from floe.actors.databases.contained_databases import ContainedDatabases, find_schema
from floe.actors.databases.database_files import fault_of_file
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.databases.schemas import ColumnName
from floe.cluster.databases import states as database_states
from floe.cluster.databases.places import find_database
from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.schema import RewardSection
from floe.reward_service.scorer import Scorer
from tests.command_line import REPOSITORY

SOUND = "CREATE TABLE pet (name TEXT); INSERT INTO pet VALUES ('Rex'), ('Tom');"
# The content of this full-text table is a view without an end.
ENDLESS = """
CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT i AS rowid, 'x' AS body FROM n WHERE i < 0;
CREATE VIRTUAL TABLE notes USING fts5(body, content='endless');
"""
HUGE = """
CREATE TABLE seed (i INTEGER, huge TEXT AS (replace(hex(zeroblob(4000000)), '00', 'abcdefghijklmnopqrstuvwxyz' || i)));
INSERT INTO seed (i) VALUES (1);
"""


def database(folder: Path, name: str, script: str) -> Path:
    path = folder / name / f"{name}.sqlite"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


@pytest.fixture(scope="module")
def databases():
    made = ContainedDatabases(ReadingSettings(time_limit_s=0.5, max_memory_bytes=64 * 2**20))
    yield made
    made.close()


def test_a_table_without_an_end_is_left_out_by_name_and_the_others_stay(tmp_path, databases):
    path = database(tmp_path, "zoo", SOUND + ENDLESS)
    found = databases.find_schema(path, 3)
    assert next(table for table in found.tables if table.name == "pet").columns[0].examples == ("'Rex'", "'Tom'")
    (sentence,) = found.left_out
    assert "table 'notes'" in sentence and str(path) in sentence and "0.5 s of CPU time" in sentence
    texts = databases.find_texts(path)
    assert (ColumnName("pet", "name"), "Rex") in texts.texts
    assert any("column 'body' of table 'notes'" in one and "CPU time" in one for one in texts.left_out)


def test_a_column_that_is_made_of_a_hundred_megabytes_is_left_out_by_name(tmp_path, databases):
    path = database(tmp_path, "zoo", SOUND + HUGE)
    found = databases.find_schema(path, 3)
    assert [table.name for table in found.tables] == ["pet", "seed"]
    (sentence,) = found.left_out
    assert "table 'seed'" in sentence and str(path) in sentence and "memory" in sentence
    assert any("column 'huge'" in one for one in databases.find_texts(path).left_out)


@pytest.mark.parametrize(
    ("kind", "said"), [("pipe", "no database"), ("empty", "is empty"), ("folder", "no database"), ("text", "SQLite")]
)
def test_a_file_that_is_no_database_is_refused_at_once(tmp_path, kind, said):
    path = tmp_path / "zoo" / "zoo.sqlite"
    path.parent.mkdir()
    {
        "pipe": lambda: os.mkfifo(path),
        "empty": path.touch,
        "folder": path.mkdir,
        "text": lambda: path.write_text("name,age\n" * 999),
    }[kind]()
    with pytest.raises(UserError, match=said) as refusal:
        find_schema(path, 3)
    assert str(path) in str(refusal.value)
    found = find_database(tmp_path, "zoo")
    assert found is None or fault_of_file(found) is not None
    judged = scored(tmp_path, "SELECT 1", "SELECT 1")
    assert (judged.outcome, judged.reward) == (Outcome.INFRASTRUCTURE, None)
    assert str(path) in judged.message


def scored(databases_dir: Path, gold: str, sql: str) -> Score:
    request = ScoreRequest(
        question_id="q", database_id="zoo", gold_sql=(gold,), candidates=(Candidate(sql=sql),)
    )  # fmt: skip
    with closing(Scorer(databases_dir, RewardSection(num_workers=1))) as scorer:
        return scorer.score(request)[0]


def leave_a_log(path: Path) -> None:
    """Make a database with a write-ahead log whose writer was killed, and no `-shm` file."""
    path.parent.mkdir(parents=True)
    writer = (
        f"import os, sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('PRAGMA journal_mode=WAL'); "
        "c.execute('CREATE TABLE pet (name TEXT)'); c.execute(\"INSERT INTO pet VALUES ('Rex')\"); c.commit(); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", writer], check=False)
    Path(f"{path}-shm").unlink()


def test_a_log_that_nobody_has_merged_is_read_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "zoo" / "zoo.sqlite"
    leave_a_log(path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    assert set(before) == {"zoo.sqlite", "zoo.sqlite-wal"}
    assert [table.name for table in find_schema(path, 1).tables] == ["pet"]
    assert scored(tmp_path, "SELECT name FROM pet", "SELECT 'Rex'").outcome is Outcome.MATCH
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


def test_an_empty_log_is_none_and_a_link_has_the_log_of_its_file(tmp_path):
    path = tmp_path / "zoo" / "zoo.sqlite"
    leave_a_log(path)
    Path(f"{path}-wal").write_bytes(b"")
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError):  # its tables stood in the log alone
        raise UserError(str(find_schema(path, 1).tables))
    assert sorted(path.parent.iterdir()) == before
    other = tmp_path / "farm" / "farm.sqlite"
    leave_a_log(other)
    link = tmp_path / "link" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(other)
    assert [table.name for table in find_schema(link, 1).tables] == ["pet"]
    assert {one.name for one in other.parent.iterdir()} == {"farm.sqlite", "farm.sqlite-wal"}


def test_what_a_killed_child_has_copied_is_removed(tmp_path):
    child = os.fork()
    if child == 0:
        database_states.copies_dir(os.getpid()).mkdir()
        os._exit(0)
    os.waitpid(child, 0)
    assert database_states.copies_dir(child).is_dir()
    database_states.remove_copies(child)
    assert not database_states.copies_dir(child).exists()


def test_what_a_stranger_declared_or_damaged_is_one_tables_own(tmp_path, databases, capfd):
    odd = "CREATE TABLE odd (a VARCHAR(10,2), b NVARCHAR(5,1), c CHAR(3,1)); INSERT INTO odd VALUES ('x', 'y', 'z');"
    path = database(tmp_path, "zoo", SOUND + odd)
    found = databases.find_schema(path, 1)
    read = {table.name: table for table in found.tables}
    first = read["odd"].columns[0]
    assert (first.name, first.type) == ("a", "VARCHAR(10,2)")
    assert read["odd"].columns[2].examples == ("'z'",) and not found.left_out
    damaged = database(tmp_path, "farm", SOUND + "CREATE TABLE other AS SELECT hex(randomblob(3000)) AS x FROM pet;")
    content = bytearray(damaged.read_bytes())
    content[-4096:-3000] = b"\xff" * 1096
    damaged.write_bytes(content)
    assert "pet" in [table.name for table in databases.find_schema(damaged, 3).tables]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.heavy
def test_a_fault_of_the_file_names_it(tmp_path, databases):
    path = database(tmp_path, "zoo", SOUND)
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked") as refusal:
            databases.find_schema(path, 1)
    assert str(path) in str(refusal.value)
    assert databases.find_schema(path, 1).tables


@pytest.mark.heavy
def test_a_ctrl_c_ends_a_preparation_that_a_database_holds_up(tmp_path):
    database(tmp_path / "databases", "zoo", SOUND + ENDLESS)
    questions = tmp_path / "questions.json"
    questions.write_text('[{"question": "Who?", "SQL": "SELECT name FROM notes", "db_id": "zoo"}]')
    command = ["prepare", "jsonl", str(questions), str(tmp_path / "databases"), str(tmp_path / "out")]
    running = subprocess.Popen(
        [sys.executable, "-m", "floe.cluster.cli", *command, "--time-limit", "600"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not is_running_sql(running.pid) and running.poll() is None:
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[0]
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=300)  # the gold alone would take 600 s of CPU time
    assert running.returncode == 130, printed
    assert "Traceback" not in printed


@pytest.mark.heavy
def test_a_ctrl_c_ends_a_scoring_that_a_candidate_holds_up(tmp_path):
    database(tmp_path / "databases", "zoo", SOUND)
    (tmp_path / "questions.json").write_text('[{"question": "Who?", "SQL": "SELECT name FROM pet", "db_id": "zoo"}]')
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"question_id": "0", "sql": endless}) + "\n")
    command = ["score", "--time-limit", "600", "--databases", str(tmp_path / "databases")]
    command += ["--questions", str(tmp_path / "questions.json")]
    command += ["--predictions", str(tmp_path / "predictions.jsonl")]
    running = subprocess.Popen(
        [sys.executable, "-m", "floe.cluster.cli", *command],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not is_running_sql(running.pid) and running.poll() is None:
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[0]
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=300)
    assert running.returncode == 130 and "Traceback" not in printed, printed


def is_running_sql(parent_pid: int) -> bool:
    """Return whether a child of an executor has used half a second of CPU time."""
    for process in psutil.Process(parent_pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            is_child = (
                "floe.reward_service.sandbox.executor_child" in process.cmdline() and process.ppid() != parent_pid
            )
            if is_child and process.cpu_times().user > 0.5:
                return True
    return False
