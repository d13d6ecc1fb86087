"""Has the reward service run every gold, on all cores, and skips what the log knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.cluster.contained.process import ProcessUnavailable
from floe.cluster.messages import GoldInspection, Outcome
from floe.cluster.preparation.gold_check_log import VerdictLog, gold_key
from floe.cluster.terminal.progress import progress_bar
from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.gold_inspector import GoldInspector

CHUNK = 16  # golds between two entries of the log: the most that a kill costs, on each core

Inspect = Callable[[GoldInspector], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldChecks:
    """Checks over one databases folder; `digests` are those of the database files."""

    databases_dir: Path
    digests: Mapping[str, str]
    settings: RewardSection  # its workers and limits
    log: VerdictLog
    shows_progress: bool

    def golds(self, queries: Iterable[tuple[str, str]]) -> dict[tuple[str, str], GoldInspection]:
        """Return the inspection of each database and query. Raises UserError when the executor can't go on."""
        judged_by = self.settings.time_limit_s, self.settings.clock
        key_of = {(one, sql): gold_key(sql, self.digests[one], *judged_by) for one, sql in queries}
        found = {query: known for query, key in key_of.items() if (known := self.log.inspection(key)) is not None}
        chunks = _chunks([query for query in key_of if query not in found])
        jobs = [lambda inspector, one=one: (one, _inspect(inspector, one)) for one in chunks]
        with progress_bar("Checking golds", len(key_of), shown=self.shows_progress) as advance:
            advance(len(found))
            for chunk, inspections in self._results(jobs):
                new = {(chunk[0], sql): one for sql, one in zip(chunk[1], inspections, strict=True)}
                found |= new
                # A fault of the machine may be gone the next time.
                lasting = {key_of[q]: one for q, one in new.items() if one.outcome is not Outcome.INFRASTRUCTURE}
                self.log.put_inspections(lasting)
                advance(len(new))
        return found

    def broken_texts(self, tables: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
        """Return by database and table the first row, from 1, with text that is no UTF-8."""
        known = {one: self.log.broken_texts(self.digests[one]) for one in tables}
        found = {one: rows for one, rows in known.items() if rows is not None}
        unknown = [one for one in tables if one not in found]
        jobs = [lambda inspector, one=one: (one, inspector.broken_texts(one, tables[one])) for one in unknown]
        with progress_bar("Reading texts", len(tables), shown=self.shows_progress) as advance:
            advance(len(found))
            for database_id, rows in self._results(jobs):
                self.log.put_broken_texts(self.digests[database_id], rows)
                found[database_id] = rows
                advance(1)
        return {one: found[one] for one in tables if found[one]}

    def _results(self, jobs: Sequence[Inspect]) -> Iterator[Any]:
        """Yield the jobs' results, as each is done."""
        with self._pool() as submit:
            try:
                for done in as_completed([submit(job) for job in jobs]):
                    yield done.result()
            except ProcessUnavailable as fault:
                raise UserError(
                    f"The checks can't go on ({fault}): fix that and run the same command again."
                ) from fault

    @contextmanager
    def _pool(self) -> Iterator[Callable[[Inspect], Any]]:
        """Make threads with an inspector each, since each inspector owns one executor child."""
        own = threading.local()
        with ExitStack() as inspectors:

            def run(job: Inspect) -> Any:
                if not hasattr(own, "inspector"):
                    inspector = GoldInspector(self.databases_dir, self.settings)
                    own.inspector = inspectors.enter_context(closing(inspector))
                return job(own.inspector)

            pool = ThreadPoolExecutor(self.settings.num_workers)
            try:
                yield lambda job: pool.submit(run, job)
            except BaseException:  # as after Ctrl-C: a gold that runs need not finish
                pool.shutdown(wait=False, cancel_futures=True)
                inspectors.close()
                raise
            finally:
                pool.shutdown(cancel_futures=True)


def _chunks(queries: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return chunks of one database each, so that a child has few open."""
    by_database: dict[str, list[str]] = {}
    for database_id, sql in queries:
        by_database.setdefault(database_id, []).append(sql)
    return [
        (database_id, queries_of_it[start : start + CHUNK])
        for database_id, queries_of_it in by_database.items()
        for start in range(0, len(queries_of_it), CHUNK)
    ]


def _inspect(inspector: GoldInspector, chunk: tuple[str, list[str]]) -> list[GoldInspection]:
    """Inspect the golds; repeat once what met a fault of the machine, such as a lock."""
    database_id, queries = chunk
    found = inspector.inspect(database_id, queries)
    again = [index for index, one in enumerate(found) if one.outcome is Outcome.INFRASTRUCTURE]
    for index, one in zip(again, inspector.inspect(database_id, [queries[i] for i in again]), strict=True):
        found[index] = one
    return found
