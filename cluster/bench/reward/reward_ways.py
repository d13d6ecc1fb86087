"""The ways of scoring that the reward bench compares; each scores a question's candidates against its gold.

`bird_way` and `process_per_query` are written from the published description of BIRD's evaluator (a new connection, the
gold run again, a thread with a time limit for each pair) and of evaluators that start a process for every query.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from floe.cluster.bench.reward.reward_workload import DATABASE_ID
from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.executor import Executor
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sql_text.statement import rejection_reason

PAIR_LIMIT_S = 30.0  # of BIRD's evaluator

Ask = Callable[[str, Sequence[str]], list[bool]]  # gold and candidates to "is a match"


class Bare:
    """sqlite3 with nothing around it: a cached connection, cached gold answers, no limit and no guard."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._golds: dict[str, set[Any]] = {}

    def prepare(self, gold: str) -> None:
        self._golds[gold] = set(self._connection.execute(gold).fetchall())

    def ask(self, gold: str, candidates: Sequence[str]) -> list[bool]:
        return [self._is_match(self._golds[gold], sql) for sql in candidates]

    def _is_match(self, gold: set[Any], sql: str) -> bool:
        try:
            return set(self._connection.execute(sql).fetchall()) == gold
        except sqlite3.Error:
            return False


class InProcess:
    """This service's executor in this process: guard, limits, duplicates folded; no pipe and no Ray."""

    def __init__(self, databases_dir: Path, reward: RewardSection) -> None:
        self._executor = Executor(ExecutorSettings.from_section(databases_dir, reward))

    def prepare(self, gold: str) -> None:
        list(self._executor.run_group(self._request(gold, [])))

    def ask(self, gold: str, candidates: Sequence[str]) -> list[bool]:
        statements = [sql for sql in dict.fromkeys(candidates) if rejection_reason(sql) is None]
        frames = self._executor.run_group(self._request(gold, statements))
        matches = {
            statements[frame["index"]]
            for frame in frames
            if frame["kind"] == "statement" and frame["outcome"] == Outcome.MATCH.value
        }
        return [sql in matches for sql in candidates]

    @staticmethod
    def _request(gold: str, statements: Sequence[str]) -> dict[str, Any]:
        return {"database_id": DATABASE_ID, "golds": [(0, gold)], "statements": list(enumerate(statements))}


def bird_way(path: Path) -> Ask:
    def pair_matches(gold: str, sql: str) -> bool:
        connection = sqlite3.connect(path)
        try:
            return set(connection.execute(sql).fetchall()) == set(connection.execute(gold).fetchall())
        except sqlite3.Error:
            return False
        finally:
            connection.close()

    def ask(gold: str, candidates: Sequence[str]) -> list[bool]:
        answers = []
        for sql in candidates:
            with ThreadPoolExecutor(1) as thread:
                answers.append(thread.submit(pair_matches, gold, sql).result(PAIR_LIMIT_S))
        return answers

    return ask


_PROGRAM = """
import sqlite3, sys
path, gold, sql = sys.argv[1:]
connection = sqlite3.connect(path)
try:
    same = set(connection.execute(sql).fetchall()) == set(connection.execute(gold).fetchall())
except sqlite3.Error:
    same = False
print(int(same))
"""


def process_per_query(path: Path) -> Ask:
    def ask(gold: str, candidates: Sequence[str]) -> list[bool]:
        answers = []
        for sql in candidates:
            # -I and -S: the leanest interpreter that can do it.
            command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(path), gold, sql]
            done = subprocess.run(command, capture_output=True, timeout=PAIR_LIMIT_S, check=True)
            answers.append(done.stdout.strip() == b"1")
        return answers

    return ask


def score_request(gold: str, candidates: Sequence[str]) -> ScoreRequest:
    return ScoreRequest(
        question_id=gold,
        database_id=DATABASE_ID,
        gold_sql=(gold,),
        candidates=tuple(Candidate(sql=sql) for sql in candidates),
    )
