"""Guarantees over many requests: load changes no score, memory stays flat, the limits refuse no honest query."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.schema import RewardSection
from floe.reward_service.scorer import Scorer
from tests.score_requests import ENDLESS, GOLD, make_database, new_scorer, score

OVERSUBSCRIPTION = 8
SLOW_ROWS = 400_000
SLOW = ENDLESS.replace("FROM r)", f"FROM r LIMIT {SLOW_ROWS})")
LIMIT_IN_SLOW = 2.5  # the limit in the CPU time of SLOW here, alone: of wall time SLOW takes far more under load


@dataclass(frozen=True)
class Load:
    """Numbers of pairs of each kind: answered at once, near the limit, over it, and with a fault."""

    num_quick: int
    num_slow: int
    num_endless: int
    num_faulty: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [
            *[
                (f"SELECT name FROM emp WHERE id <= {i % 4}", f"SELECT name FROM emp WHERE id < {i % 5} -- {i}")
                for i in range(self.num_quick)
            ],
            *[(f"{SLOW} WHERE {i} = {i}", f"{SLOW} WHERE n > 0 AND {i}") for i in range(1, 1 + self.num_slow)],
            *[(GOLD, f"{ENDLESS} WHERE {i}") for i in range(1, 1 + self.num_endless)],
            *[(f"SELECT count(*) FROM odd WHERE {i}", f"SELECT {i} UNION SELECT nope") for i in range(self.num_faulty)],
        ]


SAMPLE = Load(num_quick=48, num_slow=2, num_endless=1, num_faulty=2)
WHOLE = Load(num_quick=484, num_slow=8, num_endless=2, num_faulty=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir)
    return databases_dir


def cpu_seconds_of_slow() -> float:
    with closing(sqlite3.connect(":memory:")) as connection:
        started_s = time.thread_time()
        connection.execute(SLOW).fetchall()
        return time.thread_time() - started_s


@pytest.mark.heavy
@pytest.mark.parametrize("load", [SAMPLE, pytest.param(WHOLE, marks=pytest.mark.long)], ids=["sample", "whole"])
def test_a_score_does_not_depend_on_load(folder: Path, load: Load) -> None:
    limit_s = LIMIT_IN_SLOW * max(cpu_seconds_of_slow() for _ in range(3))

    def outcomes_of_pairs(_: int) -> list[Outcome]:
        with closing(new_scorer(folder, time_limit_s=limit_s)) as scorer:
            return [score(scorer, gold, sql)[0].outcome for gold, sql in load.pairs]

    alone = outcomes_of_pairs(0)
    assert len(alone) == sum(astuple(load))
    assert set(Counter(alone)) == {Outcome.MATCH, Outcome.MISMATCH, Outcome.TIMEOUT, Outcome.RUNTIME_ERROR}
    assert Counter(alone)[Outcome.TIMEOUT] == load.num_endless
    with ThreadPoolExecutor(OVERSUBSCRIPTION) as threads:
        crowded = list(threads.map(outcomes_of_pairs, range(OVERSUBSCRIPTION)))
    assert crowded == [alone] * OVERSUBSCRIPTION


@pytest.mark.parametrize("num_queries", [3000, pytest.param(20_000, marks=pytest.mark.long)])
def test_memory_stays_flat(folder: Path, num_queries: int) -> None:
    with closing(new_scorer(folder, time_limit_s=5)) as scorer:
        own, readings, children = psutil.Process(), [], []
        for start in range(0, num_queries, 50):
            sqls = [f"SELECT name, '{'x' * 500}' FROM emp WHERE id = {i % 5} -- {i}" for i in range(start, start + 50)]
            score(scorer, f"SELECT name FROM emp WHERE id = {start}", *sqls)
            readings.append(own.memory_info().rss)
            children.append(psutil.Process(scorer.executor_pid).memory_info().rss)
        quarter = len(readings) // 4
        allowance = 4 * 2**20  # of the allocator's; a leak of 1 KB a query would show
        assert max(readings[-quarter:]) < max(readings[:quarter]) + allowance
        assert max(children) < 256 * 2**20


@pytest.mark.long
def test_the_limits_refuse_no_gold_of_the_data_sets(shared_data: Path) -> None:
    refused, num_golds = [], 0
    for name, databases_dir, golds in gold_sets(shared_data):
        with closing(Scorer(databases_dir, RewardSection())) as scorer:
            for index, database_id, sql in golds:
                num_golds += 1
                request = ScoreRequest(
                    question_id=str(index), database_id=database_id, gold_sql=(sql,), candidates=(Candidate(sql=sql),)
                )
                result = scorer.score(request)[0]
                if result.outcome is not Outcome.MATCH:
                    refused.append((name, index, result.outcome, result.message, sql))
    assert num_golds > 9000
    assert not refused, refused


def gold_sets(data: Path) -> Iterator[tuple[str, Path, list[tuple[int, str, str]]]]:
    """Return every set of questions with databases: its verified golds as (index, database, SQL)."""
    spider = data / "spider"
    for name, databases in (
        ("dev", "databases"),
        ("train_spider", "databases"),
        ("train_others_populated", "databases_populated"),
    ):
        verification = spider / "verification" / f"{name}.json"
        if verification.is_file():
            status = json.loads(verification.read_text())["status"]
            verified = {entry["index"] for entry in status if entry["status"] in ("ok", "degenerate", "empty")}
            questions = json.loads((spider / f"{name.removesuffix('_populated')}.json").read_text())
            golds = [(i, q["db_id"], q["query"]) for i, q in enumerate(questions) if i in verified]
            yield name, spider / databases, golds
    bird = data / "bird"
    golds = [(q["question_id"], q["db_id"], q["SQL"]) for q in json.loads((bird / "dev.json").read_text())]
    yield "bird", bird / "databases", [one for one in golds if has_database(bird / "databases", one[1])]


def has_database(folder: Path, database_id: str) -> bool:
    return (folder / database_id / f"{database_id}.sqlite").is_file()
