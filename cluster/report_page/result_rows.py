"""The result rows that a report shows, from statements run once more through the reward service's executor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from floe.cluster.contained.process import ProcessUnavailable
from floe.cluster.messages import QueryResult
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.result_reader import ResultReader

MAX_ROWS = 8  # rows shown of a result
TIME_LIMIT_S = 120.0  # seconds of all of them together
CHUNK = 16  # statements between two looks at the clock

Statement = tuple[str, str]  # database id, SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """Results of the statements; `fault` says in one sentence why some are missing."""

    by_statement: Mapping[Statement, QueryResult]
    fault: str = ""


def results_of(
    databases_dir: Path, settings: RewardSection, statements: Iterable[Statement], time_limit_s: float = TIME_LIMIT_S
) -> RunResults:
    """Return results of each different statement, in the given order until the time is spent."""
    found: dict[Statement, QueryResult] = {}
    started_s = time.monotonic()
    fault = ""
    with closing(ResultReader(databases_dir, settings, MAX_ROWS)) as reader:
        for database_id, chunk in _chunks(dict.fromkeys(statements)):
            if time.monotonic() - started_s > time_limit_s:
                fault = f"Running statements was stopped after {time_limit_s:g} s: some results are not shown."
                break
            try:
                results = reader.read(database_id, chunk)
            except ProcessUnavailable as error:
                fault = f"Further results are not shown, since the executor failed: {error}."
                break
            found |= zip([(database_id, sql) for sql in chunk], results, strict=True)
    return RunResults(by_statement=found, fault=fault)


def _chunks(statements: Iterable[Statement]) -> Iterator[tuple[str, list[str]]]:
    """Return chunks of one database each, in the order in which a database first occurs."""
    by_database: dict[str, list[str]] = {}
    for database_id, sql in statements:
        by_database.setdefault(database_id, []).append(sql)
    for database_id, queries in by_database.items():
        left = iter(queries)
        while chunk := list(islice(left, CHUNK)):
            yield database_id, chunk
