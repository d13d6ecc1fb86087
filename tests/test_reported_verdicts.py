"""Cases from public bug reports of others who judge SQL by running it, each with the outcome that is right.

The cases lie next to the repository; `test_scorer.py`, `test_extraction.py` and others hold more of each kind.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from floe.cluster.messages import Candidate, ScoreRequest
from floe.reward_service.graph.build import build
from floe.reward_service.graph.encoding import Vocabulary
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape
from floe.reward_service.graph.network_files import write_network
from floe.reward_service.graph.plan import schema_of
from floe.reward_service.scorer import Scorer
from tests.command_line import REPOSITORY
from tests.score_requests import new_scorer

CASES_FILE = REPOSITORY.parent / "shared" / "data" / "reported" / "sql_verdicts.jsonl"
NETWORK = "NETWORK_DIR"  # a trained network that the case needs
THREE_ROWS = "CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'x'),(2,'y'),(3,'z');"
PICTURES = "CREATE TABLE pic(id INTEGER, name TEXT, photo BLOB, note TEXT); "
PICTURES += "INSERT INTO pic VALUES (1,'a',zeroblob(2000000),'n'),(2,'b',x'00','m');"
TWO_TABLES = "CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'x'); CREATE TABLE u(b TEXT); "
TWO_TABLES += "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) "
TWO_TABLES += "INSERT INTO u SELECT printf('%.*c',200,'k') FROM n;"
SCRIPTS = {
    "db-utf16": "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'café 😀');",
    "db-utf16-lone-surrogate": "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a INTEGER, b TEXT); "
    "INSERT INTO t VALUES (1, CAST(x'00D84100' AS TEXT));",
    "db-wal-plain": f"PRAGMA journal_mode=WAL; {THREE_ROWS}",
    "db-text-1.4mb-like": "CREATE TABLE doc(title TEXT, body TEXT); "
    "INSERT INTO doc VALUES ('d', replace(hex(zeroblob(120000)), '00', 'lorem ipsum ')), ('e', 'short');",
}
CRASH = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size=1")
connection.execute("BEGIN")
for number in range(2000):
    connection.execute("INSERT INTO t VALUES (?, ?)", (number, "k" * 200))
os.kill(os.getpid(), signal.SIGKILL)
"""


def all_cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES_FILE.read_text().splitlines()] if CASES_FILE.is_file() else []


def write_database(path: Path, case: dict[str, Any]) -> None:
    name = case["id"]
    if name in ("db-lfs-pointer", "db-html-page", "db-zero-bytes"):
        text = {"db-lfs-pointer": "version https://git-lfs.github.com/spec/v1\n", "db-html-page": "<html></html>\n"}
        path.write_text(text.get(name, ""))
        return
    script = case["schema_sql"] or SCRIPTS.get(name)
    if script is None:
        is_damaged = name.startswith(("db-truncated", "db-damaged"))
        script = PICTURES if name.startswith("db-blob") else TWO_TABLES if is_damaged else THREE_ROWS
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    if name.startswith("db-truncated"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "db-damaged-page":
        data = bytearray(path.read_bytes())
        data[40 * 4096 : 43 * 4096] = random.Random(1).randbytes(3 * 4096)
        path.write_bytes(data)
    elif name == "db-hot-journal":
        writer = subprocess.run([sys.executable, "-c", CRASH, path], check=False)
        assert writer.returncode == -signal.SIGKILL and path.with_name(path.name + "-journal").exists()
    elif name == "db-wal-pending":
        add_row_to_log(path)
    elif name.startswith("dir-appledouble"):
        path.with_name(f"._{path.name}").write_bytes(bytes.fromhex("0005160700020000") + bytes(4096))
    elif name == "dir-hidden-empty-spider":
        path.with_name(f".{path.name}").touch()


def add_row_to_log(path: Path) -> None:
    """Add a fourth row that only the log has: file and log are copied while the writer has them open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("INSERT INTO t VALUES (4,'w')")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{path}{suffix}.copy")
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}.copy").rename(f"{path}{suffix}")


@pytest.fixture(scope="module")
def network_dir(tmp_path_factory) -> Path:
    """Make an untrained network: two equal graphs have distance 0 under any."""
    schema = schema_of({"staff": {"name": "TEXT", "pay": "REAL"}})
    vocabulary = Vocabulary.of([build("SELECT name FROM staff WHERE pay > 1", schema).graph])
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    shape = NetworkShape(num_kinds=len(vocabulary.kinds) + 1, num_roles=len(vocabulary.roles) + 1, dim=16, num_layers=1)
    write_network(folder, GraphMatchingNetwork(shape), vocabulary, {})
    return folder


@pytest.fixture(scope="module")
def scorer_of(tmp_path_factory, network_dir):
    """Return the scorer of a case's settings, and the folder of all databases."""
    folder = tmp_path_factory.mktemp("databases")
    scorers: dict[str, Scorer] = {}

    def get(case: dict[str, Any]) -> tuple[Scorer, Path]:
        settings = {"semantics": case["semantics"], "time_limit_s": 5.0} | case.get("reward_settings", {})
        if settings.get("graph_network") == NETWORK:
            settings["graph_network"] = network_dir
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in scorers:
            scorers[key] = new_scorer(folder, **settings)
        return scorers[key], folder

    yield get
    for scorer in scorers.values():
        scorer.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in all_cases()])
def test_each_has_its_right_outcome(case, scorer_of):
    scorer, folder = scorer_of(case)
    database_id = case.get("db_id", case["id"])
    path = folder / database_id / f"{database_id}.sqlite"
    path.parent.mkdir()
    write_database(path, case)
    golds = case["gold"] if isinstance(case["gold"], list) else [case["gold"]]
    text = case.get("completion")
    candidate = Candidate(sql=case["prediction"]) if text is None else Candidate(completion=text)
    request = ScoreRequest(question_id="q", database_id=database_id, gold_sql=tuple(golds), candidates=(candidate,))
    (score,) = scorer.score(request)
    right = case["right_outcome"] if isinstance(case["right_outcome"], list) else [case["right_outcome"]]
    if right == ["reward below 1"]:
        assert score.reward is not None and score.reward < 1, (score, case["why"])
    else:
        assert score.outcome in right, (score, case["why"])


def test_the_cases_are_at_hand():
    if not CASES_FILE.is_file():
        pytest.skip("the reported cases are not at ../shared/data/reported")
    assert len(all_cases()) >= 236
