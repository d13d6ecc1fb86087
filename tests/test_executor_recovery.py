"""The executor under kills, stalls and growing memory: nothing but the blamed statement is lost."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ContainedProcess
from floe.cluster.contained.runs import run_all
from floe.cluster.messages import Outcome
from floe.configs.schema import RewardSection
from floe.reward_service.sandbox.executor import Executor
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.group_run import GroupRun
from floe.reward_service.scorer import Scorer
from tests.score_requests import (
    ENDLESS,
    GOLD,
    ONE_OPCODE,
    MakeScorer,
    make_database,
    new_scorer,
    outcomes,
    score,
    score_request,
)

ROOT = Path(__file__).resolve().parent.parent
BUSY_S = 0.1  # CPU time of a child that has opened its database and runs a long statement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir)
    return databases_dir


@pytest.fixture(scope="module")
def make_scorer() -> Iterator[MakeScorer]:
    with ExitStack() as stack:

        def make(*arguments: Any, **settings: Any) -> Scorer:
            scorer = new_scorer(*arguments, **settings)
            stack.callback(scorer.close)
            return scorer

        yield make


def test_no_secret_of_the_parent_reaches_a_child(folder: Path, make_scorer: MakeScorer, monkeypatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "hunter2")
    scorer = make_scorer(folder)
    score(scorer, GOLD, GOLD)
    child = psutil.Process(scorer.executor_pid)
    assert "hunter2" not in child.environ().values() and "hunter2" not in child.parent().environ().values()
    assert child.environ()["PATH"] == os.environ["PATH"]


def kill_when_busy(scorer: Scorer, number: signal.Signals, num_kills: int) -> threading.Thread:
    """Signal the executor child during its work, `num_kills` different children in turn.

    Its CPU time shows that it is at work, on a slow machine too.
    """

    def work() -> None:
        seen = {0}
        while len(seen) <= num_kills:
            pid = scorer.executor_pid
            if pid not in seen and psutil.Process(pid).cpu_times().user > BUSY_S:
                os.kill(pid, number)
                seen.add(pid)
            time.sleep(0.005)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_killed_child_costs_nothing_else(folder: Path, make_scorer: MakeScorer) -> None:
    slow = ENDLESS.replace("FROM r)", "FROM r LIMIT 3000000)")
    twice_from_outside = (signal.SIGKILL, 2, Outcome.INFRASTRUCTURE, None)
    twice_by_itself = (signal.SIGSEGV, 2, Outcome.KILLED, 0.0)
    once = (signal.SIGKILL, 1, Outcome.MISMATCH, 0.1)
    for number, num_kills, expected, reward in (once, twice_from_outside, twice_by_itself):
        scorer = make_scorer(folder, time_limit_s=60)
        killer = kill_when_busy(scorer, number, num_kills)
        scores = score(scorer, GOLD, GOLD, slow, "SELECT 1", GOLD + " -- again")
        killer.join()
        assert outcomes(scores) == [Outcome.MATCH, expected, Outcome.MISMATCH, Outcome.MATCH]
        assert scores[1].reward == reward
        assert scorer.stats().num_children == num_kills + 1


def test_a_gold_whose_child_is_killed_from_outside_is_never_at_fault(folder: Path, make_scorer: MakeScorer) -> None:
    slow = ENDLESS.replace("FROM r)", "FROM r LIMIT 3000000)")
    scorer = make_scorer(folder, time_limit_s=60)
    killer = kill_when_busy(scorer, signal.SIGKILL, 2)
    scores = score(scorer, slow, GOLD, "SELECT 1")
    killer.join()
    assert [(one.outcome, one.reward) for one in scores] == [(Outcome.INFRASTRUCTURE, None)] * 2
    assert outcomes(score(scorer, slow, "SELECT 3000000")) == [Outcome.MATCH]


def test_an_idle_child_or_server_may_die(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder)
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]
    os.kill(scorer.executor_pid, signal.SIGKILL)
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]
    with open(f"/proc/{scorer.executor_pid}/stat", encoding="ascii") as file:
        server_pid = int(file.read().rpartition(")")[2].split()[1])
    os.kill(server_pid, signal.SIGKILL)
    while psutil.Process(server_pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.005)
    results = outcomes(score(scorer, GOLD, GOLD)) + outcomes(score(scorer, GOLD, GOLD))
    assert results[1] is Outcome.MATCH and results[0] in (Outcome.MATCH, Outcome.INFRASTRUCTURE)


def test_the_wall_limit_is_nobodys_fault(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder, wall_limit_s=0.2, time_limit_s=60)
    scores = score(scorer, GOLD, ENDLESS)
    assert [(one.outcome, one.reward) for one in scores] == [(Outcome.INFRASTRUCTURE, None)]


def test_memory_is_bounded(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder, max_memory_bytes=2**20 * 4, max_result_bytes=1024)
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]
    heavy = "SELECT group_concat(hex(zeroblob(90000))) OVER () FROM emp a, emp b, emp c, emp d, emp e"
    assert outcomes(score(scorer, GOLD, heavy, GOLD)) == [Outcome.TOO_LARGE, Outcome.MATCH]
    assert scorer.stats().num_children == 1


def test_a_sort_too_large_for_its_temporary_file_is_too_large_and_no_fault(folder: Path, make_scorer: MakeScorer):
    scorer = make_scorer(folder, max_memory_bytes=2**20 * 4, time_limit_s=20.0)
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 300000)"
    sort = f"{numbers} SELECT count(*) FROM (SELECT DISTINCT hex(n) || 'padding to fill many pages' FROM r)"
    assert outcomes(score(scorer, GOLD, sort, GOLD)) == [Outcome.TOO_LARGE, Outcome.MATCH]


def test_without_file_handles_a_group_is_masked_and_the_next_one_is_judged(folder: Path, make_scorer: MakeScorer):
    scorer = make_scorer(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open, hard))
    try:
        masked = score(scorer, GOLD, GOLD)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [(one.outcome, one.reward) for one in masked] == [(Outcome.INFRASTRUCTURE, None)]
    assert "Too many open files" in masked[0].message
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]


def test_many_temporary_files_count_together(folder: Path, make_scorer: MakeScorer):
    """Each of the tables would stay within the limit of one file."""
    one = "t{0}(x) AS MATERIALIZED (SELECT zeroblob(8000) FROM r)"
    numbers = "r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 5000)"
    tables = ", ".join([numbers, *(one.format(number) for number in range(10))])
    sql = f"WITH RECURSIVE {tables} SELECT {' + '.join(f'(SELECT count(*) FROM t{number})' for number in range(10))}"
    scorer = make_scorer(folder, max_memory_bytes=64 * 2**20, time_limit_s=30.0)
    (found,) = score(scorer, "SELECT 1", sql)
    assert found.outcome is Outcome.TOO_LARGE and "temporary files exceed" in found.message


def sorted_without_temporary_files(databases_dir: Path) -> list[str]:
    """Sort in a separate process, which can't write a byte to any file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    executor = Executor(ExecutorSettings.from_section(databases_dir, RewardSection(time_limit_s=20.0)))
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 100000)"
    gold = f"{numbers} SELECT count(*) FROM (SELECT DISTINCT hex(n) || 'padding to fill many pages' FROM r)"
    other = f"{numbers} SELECT count(*) FROM (SELECT n, hex(n) || 'padding to fill many pages' x FROM r GROUP BY x)"
    request = {"database_id": "emp", "golds": [(0, gold)], "statements": [(0, other), (1, GOLD)]}
    return [frame["outcome"] for frame in executor.run_group(request)]


def test_where_no_temporary_file_can_be_written_sorts_are_done_in_memory(folder: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(sorted_without_temporary_files, folder).result(600) == ["match", "match", "mismatch"]


class SwollenProcess(ContainedProcess):
    """Stands for a child that answers and then says that it has grown too large."""

    def __init__(self) -> None:
        self.batches: list[list[Frame]] = []
        self.num_drops = 0

    def send(self, encoded_request: bytes) -> None:
        gold = {"kind": "gold", "index": 0, "outcome": "match", "ready": True, "empty": False, "cached": False}
        statement = {"kind": "statement", "index": 0, "outcome": "match", "message": "", "seconds": 0.0}
        self.batches += [[gold], [statement, {"kind": "done", "recycle": True}]]

    def receive(self) -> list[Frame]:
        return self.batches.pop(0)

    def drop_child(self) -> None:
        self.batches.clear()
        self.num_drops += 1


def test_a_swollen_child_is_replaced_after_its_group() -> None:
    process = SwollenProcess()
    runs = [GroupRun(score_request("SELECT 1"), ["SELECT 1"], 1.0) for _ in range(3)]
    run_all(process, runs)
    assert all(run.failure is None and run.verdicts[0].outcome is Outcome.MATCH for run in runs)
    assert process.num_drops == 3


def test_of_several_groups_ahead_the_guilty_statement_is_blamed(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder, time_limit_s=0.2)
    groups = [(GOLD, "SELECT 1"), ("SELECT 2", ONE_OPCODE, GOLD), (GOLD, ONE_OPCODE + " "), ("SELEC", GOLD + " ")]
    requests = [score_request(GOLD, *group) for group in groups]
    right, wrong, late = Outcome.MATCH, Outcome.MISMATCH, Outcome.TIMEOUT
    expected = [[right, wrong], [wrong, late, right], [right, late], [Outcome.SYNTAX_ERROR, right]]
    assert [outcomes(scores) for scores in scorer.score_all(requests)] == expected
    assert scorer.stats().num_children == 3


def test_groups_larger_than_a_socket_holds_are_scored_in_one_call(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder)
    padding = " " * 90_000
    requests = [score_request(GOLD, *(f"{GOLD}{padding}-- {number} {i}" for i in range(8))) for number in range(6)]
    assert [outcomes(scores) for scores in scorer.score_all(requests)] == [[Outcome.MATCH] * 8] * 6
    assert scorer.stats().num_children == 1


def test_children_die_with_their_parent(folder: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path; from floe.configs.schema import RewardSection;"
        "from floe.cluster.messages import *; from floe.reward_service.scorer import Scorer;"
        "s = Scorer(Path(sys.argv[1]), RewardSection(time_limit_s=60));"
        "r = lambda q: s.score(ScoreRequest(question_id='q', database_id='emp', gold_sql=('SELECT 1',),"
        " candidates=(Candidate(sql=q),)));"
        "r('SELECT 1'); print(s.executor_pid, flush=True); r(sys.argv[2])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), ONE_OPCODE], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline_s = time.monotonic() + 300
    while Path(f"/proc/{child_pid}/stat").exists() and time.monotonic() < deadline_s:
        if Path(f"/proc/{child_pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child_pid}").exists()


def test_work_that_is_abandoned_is_infrastructure_and_the_scorer_can_be_used_again(folder, make_scorer) -> None:
    scorer = make_scorer(folder, time_limit_s=600)
    found: list[list[Outcome]] = []
    for number in range(5):
        queries = [f"{ENDLESS} -- {number}", f"{ENDLESS} -- {number}, too"]
        scorer.ping()
        child = psutil.Process(scorer.executor_pid)
        limit_s = child.cpu_times().user + BUSY_S
        thread = threading.Thread(target=lambda sqls=queries: found.append(outcomes(score(scorer, GOLD, *sqls))))
        thread.start()
        while child.cpu_times().user < limit_s:
            time.sleep(0.005)
        scorer.abandon()
        thread.join()
        assert not child.is_running()
    assert found == [[Outcome.INFRASTRUCTURE] * 2] * 5
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]


def test_a_process_that_was_forked_off_leaves_its_parents_child_alone(folder, make_scorer) -> None:
    scorer = make_scorer(folder)
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]
    child = scorer.executor_pid
    ours, theirs = multiprocessing.Pipe()

    def work() -> None:
        theirs.send((outcomes(score(scorer, GOLD, "SELECT 7")), scorer.executor_pid))
        scorer.close()

    forked = multiprocessing.get_context("fork").Process(target=work)
    forked.start()
    assert ours.poll(120)
    found, own_child = ours.recv()
    forked.join()
    assert forked.exitcode == 0 and found == [Outcome.MISMATCH] and own_child not in (0, child)
    assert outcomes(score(scorer, GOLD, "SELECT 8")) == [Outcome.MISMATCH]
    assert scorer.executor_pid == child and not psutil.pid_exists(own_child)
