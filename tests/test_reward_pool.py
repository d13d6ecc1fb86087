"""The pool of reward workers on a real Ray: kills of workers and children, back-pressure, recovery, its numbers."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.cluster.ray_actors.placement import ray_session, start_reward_pool
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.cluster.ray_actors.reward_queue import WAITING_PER_WORKER
from floe.cluster.tracking.reward_metrics import covered_s
from floe.configs.schema import ClusterSection, RewardSection, RunConfig
from tests.ray_processes import actor_processes
from tests.score_requests import GOLD, make_database

pytestmark = pytest.mark.engine

# Statements by the outcome they must have, whatever is killed around them.
EXPECTED = {
    GOLD: Outcome.MATCH,
    "SELECT dept FROM emp": Outcome.MISMATCH,
    "SELECT name FROM emp WHERE id > 1": Outcome.MISMATCH,
    "SELEC name": Outcome.SYNTAX_ERROR,
    "SELECT nope FROM emp": Outcome.RUNTIME_ERROR,
    "DELETE FROM emp": Outcome.REJECTED,
    "SELECT count(*) FROM emp a, emp b, emp c, emp d, emp e, emp f, emp g, emp h": Outcome.MISMATCH,
}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return RunConfig(
        reward=RewardSection(num_workers=2, time_limit_s=5.0),
        cluster=ClusterSection(address="local", step_timeout_s=120),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir)
    return databases_dir


@pytest.fixture(scope="module")
def pool(config: RunConfig, folder: Path) -> Iterator[RewardPool]:
    with ray_session(config.cluster, namespace="test-reward-pool"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("floe.cluster.preparation.clock.present_instant", lambda: "2001-02-03 04:05:06")
        pool = start_reward_pool(config, folder)
        yield pool
        pool.stop()


def request(question_id: str, sqls: tuple[str, ...]) -> ScoreRequest:
    candidates = tuple(Candidate(sql=sql) for sql in sqls)
    return ScoreRequest(question_id=question_id, database_id="emp", gold_sql=(GOLD,), candidates=candidates)


def workers() -> list[psutil.Process]:
    """Return the reward workers' processes that are alive."""
    return actor_processes("Scorer")


def executor_seconds() -> dict[int, float]:
    """Return the CPU time of each executor child, by process id."""
    found = {}
    for worker in workers():
        with suppress(psutil.NoSuchProcess):
            children = [child for server in worker.children() for child in server.children()]
            found |= {child.pid: child.cpu_times().user for child in children}
    return found


def kill_some(stop: threading.Event, kills: Counter[str], rng: random.Random, results: list) -> None:
    """Kill an executor child now and then, and less often a worker; on a slow machine less often too."""
    num_next = 0
    while not stop.wait(rng.uniform(0.05, 0.3)):
        alive = workers()
        if not alive or len(results) < num_next:
            continue
        num_next = len(results) + GROUPS_BETWEEN_KILLS
        worker = rng.choice(alive)
        try:
            children = [child for server in worker.children() for child in server.children()]
            if kills["worker"] < MIN_KILLS["worker"] and kills["child"] >= 2:
                worker.kill()
                kills["worker"] += 1
            elif children:
                children[0].kill()
                kills["child"] += 1
        except psutil.NoSuchProcess:
            continue


MIN_KILLS = Counter(child=5, worker=2)
MAX_EXTRA_WAVES = 100
GROUPS_BETWEEN_KILLS = 4
BUSY_S = 0.1  # CPU time after which a child is in the middle of a long statement


@pytest.mark.parametrize("num_candidates", [2000, pytest.param(10_000, marks=pytest.mark.long)])
def test_one_score_per_candidate_under_random_kills(pool: RewardPool, num_candidates: int) -> None:
    rng = random.Random(num_candidates)
    stop, kills = threading.Event(), Counter[str]()
    groups: list[tuple[str, ...]] = []
    results: list[tuple[Score, ...]] = []
    killer = threading.Thread(target=kill_some, args=(stop, kills, rng, results), daemon=True)
    killer.start()
    try:
        while sum(map(len, groups)) < num_candidates or (not kills >= MIN_KILLS and len(groups) < 20 * MAX_EXTRA_WAVES):
            wave = [random_group(rng, f"{len(groups)} {number}") for number in range(20)]
            tickets = [pool.submit(request(f"q{number}", group)) for number, group in enumerate(wave)]
            groups += wave
            for ticket in tickets:
                results.append(pool.result(ticket))
    finally:
        stop.set()
        killer.join()
    assert kills >= MIN_KILLS
    assert [len(scores) for scores in results] == [len(group) for group in groups]
    judged = [pair for group, scores in zip(groups, results, strict=True) for pair in zip(group, scores, strict=True)]
    unexpected = [(sql, score) for sql, score in judged if not is_right(sql, score)]
    assert not unexpected, unexpected[:5]
    # Each statement that was given up had at least two deaths, and a gold takes its whole group with it.
    lost = [sum(score.outcome is Outcome.INFRASTRUCTURE for score in scores) for scores in results]
    num_given_up = sum(1 if num == len(scores) else num for num, scores in zip(lost, results, strict=True))
    assert num_given_up <= kills.total()


def random_group(rng: random.Random, name: str) -> tuple[str, ...]:
    """Make a group; a unique comment keeps a known verdict from answering for a statement."""
    return tuple(f"{rng.choice(list(EXPECTED))} -- {name} {number}" for number in range(rng.randint(1, 64)))


def is_right(sql: str, score: Score) -> bool:
    """Return whether it has its own outcome, or none and no reward where its process was killed again and again."""
    if score.sql != sql:
        return False
    if score.outcome is Outcome.INFRASTRUCTURE:
        return score.reward is None
    return score.outcome is EXPECTED[sql.rpartition(" -- ")[0]]


def test_a_dead_worker_is_replaced_and_its_group_scored(pool: RewardPool) -> None:
    pool.metrics()
    pool.result(pool.submit(request("before", (GOLD,))))
    for worker in workers():
        worker.kill()
    tickets = [pool.submit(request(f"after{number}", (GOLD, "SELEC"))) for number in range(4)]
    results = [pool.result(ticket) for ticket in tickets]
    assert all([score.outcome for score in scores] == [Outcome.MATCH, Outcome.SYNTAX_ERROR] for scores in results)
    assert pool.metrics().replaced_workers >= 1


@pytest.mark.long
def test_all_workers_judge_at_one_instant_which_their_successors_keep(pool: RewardPool) -> None:
    for worker in workers():
        worker.kill()
    right = tuple(Candidate(sql=f"SELECT '2001-02-03 04:05:06' -- {number}") for number in range(2))
    asking = ScoreRequest(question_id="q", database_id="emp", gold_sql=("SELECT datetime('now')",), candidates=right)
    results = [pool.result(ticket) for ticket in [pool.submit(asking) for _ in range(8)]]
    assert {score.outcome for scores in results for score in scores} == {Outcome.MATCH}


def test_a_slow_group_holds_nobody_else_back(pool: RewardPool) -> None:
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT count(*) FROM r"
    slow = pool.submit(request("slow", (endless,)))
    quick = [pool.submit(request(f"quick{number}", (GOLD,))) for number in range(6)]
    assert all(pool.result(ticket)[0].outcome is Outcome.MATCH for ticket in quick)
    assert not slow.done()
    assert pool.result(slow)[0].outcome is Outcome.TIMEOUT


def test_its_numbers_add_up(pool: RewardPool) -> None:
    pool.metrics()
    groups = [(GOLD, GOLD, "SELECT 1"), (GOLD, "SELEC")]
    for number, group in enumerate(groups):
        pool.result(pool.submit(request(f"n{number}", group)))
    metrics = pool.metrics()
    assert metrics.num_scores == 5
    assert metrics.outcomes == {"match": 3, "mismatch": 1, "syntax_error": 1}
    assert metrics.folded_scores == 1 and metrics.lost_children == metrics.replaced_workers == 0
    assert metrics.queue_wait_p99_s >= metrics.queue_wait_p50_s >= 0
    assert metrics.cached_golds >= 1 and metrics.scores_per_s >= metrics.scores_per_busy_s > 0
    assert pool.metrics().num_scores == 0


def test_time_covered_by_overlapping_work_counts_once() -> None:
    assert covered_s([]) == 0
    assert covered_s([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == 4.0


@pytest.mark.long
def test_workers_lost_in_the_midst_of_several_groups_lose_none_of_them(pool: RewardPool) -> None:
    for number in range(40):  # short groups, so that the next ones are handed out several at a time
        pool.result(pool.submit(request(f"short{number}", (GOLD,))))
    # Long, so that all of them are under way; and within the time limit ten times slower.
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 1000000)"
    slow = [f"{numbers} SELECT count(*) + {number} FROM r" for number in range(8)]
    pool.metrics()
    before_s = executor_seconds()
    tickets = [pool.submit(request(f"slow{number}", (sql, GOLD, "SELEC"))) for number, sql in enumerate(slow)]
    while all(spent_s < before_s.get(pid, 0.0) + BUSY_S for pid, spent_s in executor_seconds().items()):
        time.sleep(0.01)
    for worker in workers():
        worker.kill()
    expected = [Outcome.MISMATCH, Outcome.MATCH, Outcome.SYNTAX_ERROR]
    assert [[score.outcome for score in pool.result(ticket)] for ticket in tickets] == [expected] * len(slow)
    assert pool.metrics().replaced_workers >= 1


def test_a_full_queue_holds_the_caller_back(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(RewardPool, "_score_all", lambda *args: [let_go.wait(300) and ()] * len(args[-1]))
    held = RewardPool([object()], 1.0, 1.0)
    submitted = []
    caller = threading.Thread(
        target=lambda: [submitted.append(held.submit(request(f"q{i}", (GOLD,)))) for i in range(20)], daemon=True
    )
    caller.start()
    while len(submitted) < WAITING_PER_WORKER:
        time.sleep(0.01)
    caller.join(0.1)
    assert caller.is_alive() and len(submitted) < 20
    let_go.set()
    caller.join(300)
    assert [held.result(ticket) for ticket in submitted] == [()] * 20


def test_a_fault_of_the_worker_is_raised_where_the_scores_are_wanted(pool: RewardPool) -> None:
    wrong = ScoreRequest(question_id="q", database_id="emp", gold_sql=(GOLD,), candidates=(Candidate(),))
    with pytest.raises(ray.exceptions.RayTaskError, match="exactly one"):
        pool.result(pool.submit(wrong))
