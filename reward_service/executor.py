"""Runs golds and candidates against a database, inside an executor child, and yields one frame for each."""

from __future__ import annotations

import signal
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.messages import Outcome
from reward_service.comparison import Answer, Row, answers_match
from reward_service.databases import Database, DatabaseFolder
from reward_service.executor_settings import ExecutorSettings
from reward_service.frames import Frame
from reward_service.statement import has_outermost_order_by, rejection_reason
from reward_service.verdict import (
    STATEMENT_ERRORS,
    DatabaseUnavailable,
    NotAQuery,
    ResultTooLarge,
    Verdict,
    message_of,
    outcome_of,
)

FETCH_ROWS = 100  # at most so many cells of LIMIT_LENGTH are held beyond the byte budget
CELL_BYTES = 8
MAX_CACHED_GOLDS = 4096
READY = "ready"  # of a gold frame: its answer is at hand

GoldKey = tuple[str, str, str]  # database digest, SQL, semantics


class Executor:
    """One child's databases and gold answers."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._databases = DatabaseFolder(Path(settings.databases_dir), settings.max_memory_bytes)
        self._golds = _GoldCache(2 * settings.max_result_bytes)

    def run_group(self, request: Frame) -> Iterator[Frame]:
        """One `gold` frame per gold, then, when any gold is ready, one `statement` frame per statement.

        A gold that meets an infrastructure fault ends the group.
        """
        database_id = request["database_id"]
        answers: list[Answer] = []
        for index, sql in request["golds"]:
            verdict, answer = self._gold(database_id, sql)
            outcome = READY if answer else verdict.outcome.value
            yield _frame("gold", index, outcome, verdict)
            if verdict.outcome is Outcome.INFRASTRUCTURE:
                return
            if answer:
                answers.append(answer)
        for index, sql in request["statements"] if answers else ():
            verdict = self._run(database_id, sql, answers)[0]
            yield _frame("statement", index, verdict.outcome.value, verdict)

    def _gold(self, database_id: str, sql: str) -> tuple[Verdict, Answer | None]:
        if reason := rejection_reason(sql):
            return Verdict(Outcome.GOLD_FAILED, f"gold SQL: {reason}"), None
        try:
            key = (self._databases.get(database_id).digest, sql, self._settings.semantics)
        except DatabaseUnavailable as error:
            return Verdict(Outcome.INFRASTRUCTURE, message_of(error)), None
        if cached := self._golds.get(key):
            return cached
        verdict, answer = self._run(database_id, sql, None)
        if verdict.outcome is Outcome.INFRASTRUCTURE:
            return verdict, None
        if answer is None:
            text = f"gold SQL ended as {verdict.outcome}: {verdict.message}"
            verdict = Verdict(Outcome.GOLD_FAILED, text, verdict.seconds)
        self._golds.put(key, verdict, answer)
        return verdict, answer

    def _run(self, database_id: str, sql: str, golds: list[Answer] | None) -> tuple[Verdict, Answer | None]:
        """Runs one statement and compares it with `golds`; without golds its answer is what is wanted.

        One CPU-time allowance covers running and comparing: a result can be made dear to compare.
        """
        started_s = time.thread_time()
        answer = None
        message = ""
        try:
            database = self._databases.current(database_id)
            started_s = time.thread_time()
            with _cpu_timer(self._settings.hard_limit_s):
                answer = self._answer(database, sql, is_gold=golds is None)
                outcome = Outcome.MATCH if golds is None or self._matches(golds, answer) else Outcome.MISMATCH
        except (*STATEMENT_ERRORS, DatabaseUnavailable) as error:
            outcome, answer = outcome_of(error), None
            message = self._explain(error, outcome)
            if isinstance(error, MemoryError) or outcome is Outcome.INFRASTRUCTURE:
                self._databases.drop(database_id)
        return Verdict(outcome, message, time.thread_time() - started_s), answer

    def _answer(self, database: Database, sql: str, *, is_gold: bool) -> Answer:
        database.deadline.arm(self._settings.time_limit_s)
        try:
            cursor = database.execute(sql)
            if cursor is None:
                raise NotAQuery("the statement returns no columns; only a query can be an answer")
            try:
                return Answer(
                    self._fetch(cursor), len(cursor.description), ordered=is_gold and has_outermost_order_by(sql)
                )
            finally:
                cursor.close()
        finally:
            database.deadline.disarm()

    def _fetch(self, cursor: Any) -> list[Row]:
        rows: list[Row] = []
        num_bytes = 0
        while block := cursor.fetchmany(FETCH_ROWS):
            rows += block
            num_bytes += size_bytes(block)
            if len(rows) > self._settings.max_rows:
                raise ResultTooLarge(f"the result has more than {self._settings.max_rows} rows (reward.max_rows)")
            if num_bytes > self._settings.max_result_bytes:
                raise ResultTooLarge(
                    f"the result has more than {self._settings.max_result_bytes} bytes (reward.max_result_bytes)"
                )
        return rows

    def _matches(self, golds: list[Answer], answer: Answer) -> bool:
        settings = self._settings
        return any(answers_match(settings.semantics, gold, answer, settings.float_tolerance) for gold in golds)

    def _explain(self, error: BaseException, outcome: Outcome) -> str:
        if outcome is Outcome.TIMEOUT:
            return f"stopped after {self._settings.time_limit_s:g} s of CPU time (reward.time_limit_s)"
        if isinstance(error, MemoryError):
            return f"SQLite needed more than {self._settings.max_memory_bytes} bytes (reward.max_memory_bytes)"
        return message_of(error)


class _GoldCache:
    """Gold verdicts and answers, the least recently used dropped beyond `max_bytes` of results."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[GoldKey, tuple[Verdict, Answer | None, int]] = OrderedDict()

    def get(self, key: GoldKey) -> tuple[Verdict, Answer | None] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[:2]

    def put(self, key: GoldKey, verdict: Verdict, answer: Answer | None) -> None:
        num_bytes = size_bytes(answer.rows) if answer else 0
        self._entries[key] = (verdict, answer, num_bytes)
        self._num_bytes += num_bytes
        while len(self._entries) > 1 and (self._num_bytes > self._max_bytes or len(self._entries) > MAX_CACHED_GOLDS):
            self._num_bytes -= self._entries.popitem(last=False)[1][2]


def size_bytes(rows: list[Row]) -> int:
    """Text and blobs by their length, any other cell as one word."""
    num_bytes = 0
    for row in rows:
        num_bytes += CELL_BYTES * len(row)
        for cell in row:
            if cell.__class__ is str or cell.__class__ is bytes:
                num_bytes += len(cell)
    return num_bytes


@contextmanager
def _cpu_timer(limit_s: float) -> Iterator[None]:
    """Ends this process by SIGPROF when the block takes more CPU time: the last resort inside one opcode."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _frame(kind: str, index: int, outcome: str, verdict: Verdict) -> Frame:
    return {
        "kind": kind,
        "index": index,
        "outcome": outcome,
        "message": verdict.message,
        "seconds": verdict.seconds,
    }
