"""Blame for a child's death, by a process that stands for one; and running always ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from floe.cluster.contained.frames import Frame
from floe.cluster.contained.process import ChildEnded, ContainedProcess
from floe.cluster.contained.runs import run_all
from floe.cluster.messages import Outcome
from floe.reward_service.sandbox.group_run import GroupRun
from floe.reward_service.sandbox.statements_run import StatementsRun
from tests.score_requests import score_request

LENGTH_BYTES = 8
KILLED, CRASHED, TIMED_OUT = signal.SIGKILL, signal.SIGSEGV, signal.SIGPROF
TOO_LATE = None  # no signal: it was ended for giving no answer
GOLD = {"kind": "gold", "index": 0, "outcome": "match", "message": "", "seconds": 0.0}


class Scripted(ContainedProcess):
    """A child that ends by `signals` in turn, where `dies_at` says so of the requests that it has not answered yet."""

    def __init__(self, dies_at: Callable[[list[Frame]], tuple[int, int] | None], *signals: int | None) -> None:
        self._dies_at = dies_at
        self._signals = signals or (KILLED,)
        self._requests: list[Frame] = []
        self.num_deaths = 0

    def send(self, encoded_request: bytes) -> None:
        self._requests.append(json.loads(encoded_request[LENGTH_BYTES:]))

    def receive(self) -> list[Frame]:
        if (position := self._dies_at(self._requests)) is not None:
            self._requests.clear()
            self.num_deaths += 1
            assert self.num_deaths < 100, "the same request is sent for ever"
            number = self._signals[(self.num_deaths - 1) % len(self._signals)]
            raise ChildEnded("the executor died", position, number)
        request = self._requests.pop(0)
        golds = [
            GOLD | {"index": index, "ready": True, "empty": False, "cached": False} for index, _ in request["golds"]
        ]
        answers = [
            {"kind": "statement", "index": index, "outcome": "mismatch", "message": "", "seconds": 0.0}
            for index, _ in request["statements"]
        ]
        return [*golds, *answers, {"kind": "done", "recycle": False}]


def groups(*names: str) -> list[GroupRun]:
    return [GroupRun(score_request("gold"), [f"{name}0", f"{name}1"], 1.0) for name in names]


def texts(request: Frame) -> list[str]:
    return [sql for _, sql in request["statements"]]


def outcomes(run: GroupRun) -> list[Outcome]:
    return [run.verdicts[index].outcome for index in sorted(run.verdicts)]


def test_a_request_that_no_child_survives_reading_ends_and_the_others_are_scored():
    runs = groups("a", "b", "c")

    def dies_at(requests: list[Frame]) -> tuple[int, int] | None:
        first = requests[0]
        if first["statements"][0][1][0] == "b":  # the one before it is answered in full
            return first["number"] - 1, 3
        return None

    run_all(Scripted(dies_at), runs)
    assert outcomes(runs[0]) == outcomes(runs[2]) == [Outcome.MISMATCH] * 2
    assert runs[1].failure is not None and runs[1].failure.outcome is Outcome.INFRASTRUCTURE


@pytest.mark.parametrize("number", [KILLED, CRASHED])
def test_a_child_that_dies_before_it_reads_anything_is_nobodys_fault_and_does_not_keep_the_run_for_ever(number):
    runs = groups("a", "b")
    run_all(Scripted(lambda requests: (0, 0), number), runs)
    assert all(run.failure is not None and run.failure.outcome is Outcome.INFRASTRUCTURE for run in runs)


def dies_on_gold(requests: list[Frame]) -> tuple[int, int]:
    return requests[0]["number"], 0


@pytest.mark.parametrize(("number", "expected"), [(KILLED, Outcome.INFRASTRUCTURE), (CRASHED, Outcome.GOLD_FAILED)])
def test_a_gold_is_to_blame_for_a_crash_and_never_for_a_kill_from_outside(number, expected):
    (run,) = groups("a")
    process = Scripted(dies_on_gold, number)
    run_all(process, [run])
    assert run.failure is not None and run.failure.outcome is expected
    assert process.num_deaths == 2


@pytest.mark.parametrize(("number", "expected"), [(KILLED, Outcome.INFRASTRUCTURE), (CRASHED, Outcome.KILLED)])
def test_a_query_that_is_inspected_is_to_blame_for_a_crash_and_never_for_a_kill_from_outside(number, expected):
    run = StatementsRun("emp", ["SELECT 1"], {"inspect": "golds"}, 1.0)
    run_all(Scripted(dies_on_gold, number), [run])
    assert run.answers[0]["outcome"] == expected


def test_a_crash_beside_a_kill_from_outside_is_no_proof():
    (run,) = groups("a")
    run_all(Scripted(dies_on_gold, CRASHED, KILLED), [run])
    assert run.failure is not None and run.failure.outcome is Outcome.INFRASTRUCTURE


def test_a_child_that_always_dies_with_its_answers_made_and_unsent_does_not_either():
    (run,) = groups("a")
    run_all(Scripted(lambda requests: (requests[-1]["number"], 1 + len(requests[-1]["statements"]))), [run])
    assert run.is_over


DEATHS = [
    (KILLED, 2, "infrastructure"),
    (TOO_LATE, 2, "infrastructure"),
    (CRASHED, 2, "killed"),
    (TIMED_OUT, 1, "timeout"),
]


@pytest.mark.parametrize(("number", "num_deaths", "expected"), DEATHS)
def test_the_statement_that_the_child_was_at_is_blamed_and_no_other(number, num_deaths, expected):
    runs = groups("a", "b", "c")

    def dies_at(requests: list[Frame]) -> tuple[int, int] | None:
        for request in requests:
            if "b1" in texts(request):
                return request["number"], len(request["golds"]) + texts(request).index("b1")
        return None

    process = Scripted(dies_at, number)
    run_all(process, runs)
    assert process.num_deaths == num_deaths
    assert outcomes(runs[1])[1] == expected
    assert [run.failure for run in runs] == [None] * 3
    assert outcomes(runs[0]) == outcomes(runs[2]) == [Outcome.MISMATCH] * 2


def test_where_the_child_was_in_an_earlier_call_is_not_taken_for_this_one():
    seen: list[int] = []

    def notes(requests: list[Frame]) -> None:
        seen.append(requests[0]["number"])

    for name in ("a", "b"):
        run_all(Scripted(notes), groups(name))
    assert seen[1] > seen[0]
