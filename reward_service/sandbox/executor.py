"""Runs golds and candidates against a database, inside an executor child, and yields one frame for each."""

from __future__ import annotations

import math
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from floe.cluster.contained.frames import Frame
from floe.cluster.messages import Outcome
from floe.reward_service.bounded_cache import BoundedCache
from floe.reward_service.comparison.comparison import Answer, Row, answers_match, matches_any, prepare_gold
from floe.reward_service.comparison.result_profile import result_profile, time_ratio
from floe.reward_service.comparison.shown_result import shown_result
from floe.reward_service.gold import Gold, failed_gold
from floe.reward_service.sandbox.databases import Database, OpenDatabases, database_path, suite_paths
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.fetching import fetch_rows, size_bytes
from floe.reward_service.sandbox.fixed_clock import FixedClock
from floe.reward_service.sandbox.guard import is_of_the_fast_way
from floe.reward_service.sandbox.inspection import inspection_marks
from floe.reward_service.sql_text.statement import has_outermost_order_by, rejection_reason, without_empty_end
from floe.reward_service.verdict import (
    STATEMENT_ERRORS,
    DatabaseUnavailable,
    NotAQuery,
    ResultTooLarge,
    Verdict,
    message_of,
    outcome_of,
)

NUM_CHECKING_RUNS = 4  # runs of a gold that names a function of chance, after the first
REARM_S = 0.05  # seconds of the grace that a statement may lose: setting a CPU timer each time costs 3 % of a short one
VERDICT_CACHE_BYTES = 16 * 2**20
KEY_BYTES = 512  # digests, golds and objects of one cache entry, roughly: a group's entries share the longer ones

Digests = tuple[str, ...]  # of the databases that a question is judged on
JudgedBy = tuple[str, Digests, tuple[str, ...]]  # semantics, digests, golds


class Executor:
    """One child's databases, gold answers and known verdicts."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._clock = FixedClock(settings.clock)
        self._databases = OpenDatabases(settings.sizes, self._clock)
        self._golds: BoundedCache[tuple[str, Digests, str], Gold] = BoundedCache(2 * settings.max_result_bytes)
        self._verdicts: BoundedCache[tuple[JudgedBy, str], Verdict] = BoundedCache(VERDICT_CACHE_BYTES)
        self._paths_by_id: dict[str, list[Path]] = {}  # a new Path would be slow to look up
        self._armed_s = -math.inf  # when the CPU timer was last set
        self._semantics = settings.semantics  # those of the group that is being run

    def run_group(self, request: Frame) -> Iterator[Frame]:
        """Yield one `gold` frame per gold, then, when any gold is ready, one `statement` frame per statement.

        `semantics` replaces the settings' for this group. With `profiles` each result is profiled (`result_profile`),
        and no verdict is taken from an earlier group. With `inspect` one `inspection` frame per statement follows. A
        gold that meets an infrastructure fault ends the group.
        """
        self._semantics = request.get("semantics", self._settings.semantics)
        try:
            yield from self._inspections(request) if "inspect" in request else self._frames(request)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._armed_s = -math.inf

    def _frames(self, request: Frame) -> Iterator[Frame]:
        try:
            paths = self._paths(request["database_id"])
            digests = tuple(self._databases.get(path).digest for path in paths)
        except DatabaseUnavailable as error:
            index = request["golds"][0][0]
            yield _frame("gold", index, Verdict(Outcome.INFRASTRUCTURE, message_of(error)))
            return
        ready: dict[str, Gold] = {}
        for index, sql in request["golds"]:
            known_gold = self._golds.get((self._semantics, digests, sql))
            gold = known_gold or self._gold(paths, digests, sql)
            if gold.answers:
                ready[sql] = gold
            marks = {"ready": bool(gold.answers), "empty": gold.is_empty, "cached": known_gold is not None}
            yield _frame("gold", index, gold.verdict, **marks)
            if gold.verdict.outcome is Outcome.INFRASTRUCTURE:
                return
        if not ready:
            return
        judged_by = (self._semantics, digests, tuple(ready))
        profiles = request.get("profiles")
        golds = list(ready.values())
        for index, sql in request["statements"]:
            known = None if profiles is not None else self._verdicts.get((judged_by, sql))
            if known is not None:
                yield _frame("statement", index, known, cached=True)
                continue
            verdict, answer, is_constant = self._judge(paths, sql, golds)
            # Outcomes that the file and the statement alone decide: a timeout or a memory fault may depend on the
            # machine.
            if is_constant and (verdict.outcome is Outcome.MATCH or verdict.outcome is Outcome.MISMATCH):
                self._verdicts.put((judged_by, sql), verdict._replace(seconds=0.0), len(sql) + KEY_BYTES)
            if profiles is not None and answer is not None:
                profile = self._profile(paths[0], sql, answer, ready, profiles["num_timings"])
                yield _frame("statement", index, verdict, profile=profile)
            else:
                yield _frame("statement", index, verdict)

    def _inspections(self, request: Frame) -> Iterator[Frame]:
        """Run `golds` twice to see whether they agree; find the first broken row of `texts`; return some of `rows`."""
        path = self._paths(request["database_id"])[0]
        for index, sql in request["statements"]:
            reason = rejection_reason(sql)
            verdict, answer = Verdict(Outcome.REJECTED, reason or ""), None
            if reason is None:
                verdict, answer, _ = self._run(path, sql, None)
            if answer is not None and request["inspect"] == "golds":
                verdict = self._run(path, sql, [answer])[0]
            if request["inspect"] == "rows":
                marks = {} if answer is None else shown_result(answer, request["max_rows"])
            else:
                marks = inspection_marks([] if answer is None else answer.rows, sql, request["inspect"])
            yield _frame("inspection", index, verdict, **marks)

    def _paths(self, database_id: str) -> list[Path]:
        settings = self._settings
        if self._semantics != "spider":
            if database_id not in self._paths_by_id:
                self._paths_by_id[database_id] = [database_path(Path(settings.databases_dir), database_id)]
            return self._paths_by_id[database_id]
        suite_dir = None if settings.suite_dir is None else Path(settings.suite_dir)
        return suite_paths(Path(settings.databases_dir), suite_dir, database_id)

    def _gold(self, paths: Sequence[Path], digests: Digests, sql: str) -> Gold:
        if reason := rejection_reason(sql):
            return Gold(Verdict(Outcome.GOLD_FAILED, f"gold SQL: {reason}"))
        gold = self._run_gold(paths, sql)
        if gold.lasts:
            size = KEY_BYTES + sum(size_bytes(answer.rows) for answer in gold.answers)
            self._golds.put((self._semantics, digests, sql), gold, size)
        return gold

    def _run_gold(self, paths: Sequence[Path], sql: str) -> Gold:
        answers = []
        seconds, all_constant = 0.0, True
        for path in paths:
            verdict, answer, is_constant = self._run(path, sql, None)
            seconds += verdict.seconds
            all_constant = all_constant and is_constant
            if answer is None:
                return failed_gold(verdict)
            # The file and SQLite are the same: only a function of clock or chance can make two runs differ.
            for _ in range(0 if is_constant else NUM_CHECKING_RUNS):
                again = self._run(path, sql, [answer])[0]
                seconds += again.seconds
                if again.outcome is Outcome.MISMATCH:
                    text = "gold SQL is not deterministic: two runs gave different results"
                    return Gold(Verdict(Outcome.GOLD_FAILED, text, seconds))
                if again.outcome is not Outcome.MATCH:
                    return failed_gold(again)
            answers.append(answer)
        return Gold(Verdict(Outcome.MATCH, "", seconds), tuple(answers), lasts=all_constant)

    def _judge(self, paths: Sequence[Path], sql: str, golds: list[Gold]) -> tuple[Verdict, Answer | None, bool]:
        """Return the verdict over all the suite's databases, the main one's answer, and whether the verdict lasts.

        The first database without a match ends it. One gold has to agree everywhere.
        """
        if len(paths) == 1:
            return self._run(paths[0], sql, [gold.answers[0] for gold in golds])
        agreeing, on_main = golds, None
        seconds, all_constant = 0.0, True
        verdict = Verdict(Outcome.MISMATCH)
        for number, path in enumerate(paths):
            verdict, answer, is_constant = self._run(path, sql, [gold.answers[number] for gold in agreeing])
            seconds += verdict.seconds
            all_constant = all_constant and is_constant
            on_main = answer if number == 0 else on_main
            if verdict.outcome is not Outcome.MATCH or answer is None:
                break
            if len(agreeing) > 1 and number + 1 < len(paths):
                agreeing = self._agreeing(agreeing, number, answer)
        return verdict._replace(seconds=seconds, is_empty=_is_empty(on_main)), on_main, all_constant

    def _run(self, path: Path, sql: str, golds: list[Answer] | None) -> tuple[Verdict, Answer | None, bool]:
        """Run one statement and compare it with `golds`, all in one CPU-time allowance; without golds only run it.

        The third value says whether the same file will always give the same result.
        """
        try:
            database = self._databases.known(path) or self._opened(path)
        except DatabaseUnavailable as error:
            return Verdict(Outcome.INFRASTRUCTURE, message_of(error)), None, False
        answer, message, is_constant = None, "", False
        started_s = time.thread_time()
        database.deadline.set(started_s + self._settings.time_limit_s)
        self._arm_cpu_timer(started_s)
        try:
            answer = self._answer(database, sql, is_gold=golds is None)
            if golds is None:
                prepare_gold(self._semantics, answer)
            outcome = Outcome.MATCH if golds is None or self._matches(golds, answer) else Outcome.MISMATCH
            is_constant = not database.last_used_changeable
        except STATEMENT_ERRORS as error:
            outcome, answer = outcome_of(error), None
            message = self._explain(error, outcome)
            if isinstance(error, MemoryError) or outcome is Outcome.INFRASTRUCTURE:
                self._databases.drop(path)
        return Verdict(outcome, message, time.thread_time() - started_s, _is_empty(answer)), answer, is_constant

    def _opened(self, path: Path) -> Database:
        """Return the open database, perhaps copied outside of a statement's time. Raises DatabaseUnavailable."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._armed_s = -math.inf
        return self._databases.get(path)

    def _arm_cpu_timer(self, now_s: float) -> None:
        """Set a timer that ends this process when a statement takes more CPU time: a last resort inside one opcode."""
        if now_s - self._armed_s > REARM_S:
            signal.setitimer(signal.ITIMER_PROF, self._settings.hard_limit_s)
            self._armed_s = now_s

    def _answer(self, database: Database, sql: str, *, is_gold: bool) -> Answer:
        try:
            rows, description = self._rows(database, sql)
        except sqlite3.Error as error:
            if database.deadline.has_filled_files:
                num_bytes = self._settings.max_memory_bytes
                raise ResultTooLarge(
                    f"its temporary files exceed {num_bytes} bytes (reward.max_memory_bytes)"
                ) from error
            if not is_of_the_fast_way(error):
                raise
            with database.slow_way():
                rows, description = self._rows(database, sql)
        finally:
            database.deadline.clear()
        return Answer(rows, len(description), is_gold and has_outermost_order_by(sql), description)

    def _rows(self, database: Database, sql: str) -> tuple[list[Row], Sequence[Sequence[Any]]]:
        whole = without_empty_end(sql)
        rewritten = self._clock.rewritten(whole)
        cursor = database.execute(rewritten)
        if cursor is None:
            raise NotAQuery("the statement returns no columns; only a query can be an answer")
        try:
            rows = fetch_rows(cursor, self._settings.max_rows, self._settings.max_result_bytes)
            return rows, cursor.description if rewritten is whole else self._clock.shown(cursor.description)
        finally:
            cursor.close()

    def _profile(
        self, path: Path, sql: str, answer: Answer, golds: Mapping[str, Gold], num_timings: int
    ) -> Frame | None:
        """Return the profile of the answer on the main database; its cost is not the candidate's."""
        self._armed_s = -math.inf
        self._arm_cpu_timer(time.thread_time())
        on_main = {gold_sql: gold.answers[0] for gold_sql, gold in golds.items()}
        profile = result_profile(answer, list(on_main.values()))
        matched = next((one for one, gold in on_main.items() if answers_match("bird", gold, answer)), None)
        if profile is not None and matched is not None and num_timings:
            limit_s = self._settings.time_limit_s
            profile["time_ratio"] = time_ratio(
                lambda one: self._run(path, one, None)[0], matched, sql, num_timings, limit_s
            )
        return profile

    def _agreeing(self, golds: list[Gold], number: int, answer: Answer) -> list[Gold]:
        """Return the golds, at least one, that the answer matches there; one that can't be compared is left out."""
        found = []
        for gold in golds:
            with suppress(ResultTooLarge):
                found += [gold] if self._matches([gold.answers[number]], answer) else []
        return found

    def _matches(self, golds: Sequence[Answer], answer: Answer) -> bool:
        return matches_any(self._semantics, golds, answer, self._settings.float_tolerance)

    def _explain(self, error: BaseException, outcome: Outcome) -> str:
        if outcome is Outcome.TIMEOUT:
            return f"stopped after {self._settings.time_limit_s:g} s of CPU time (reward.time_limit_s)"
        if isinstance(error, MemoryError):
            return f"SQLite needed more than {self._settings.max_memory_bytes} bytes (reward.max_memory_bytes)"
        return message_of(error)


def _frame(kind: str, index: int, verdict: Verdict, **marks: Any) -> Frame:
    found = {"outcome": str(verdict.outcome), "message": verdict.message, "seconds": verdict.seconds}
    return {"kind": kind, "index": index, **found, "empty": verdict.is_empty, **marks}


def _is_empty(answer: Answer | None) -> bool:
    return answer is not None and not answer.rows
