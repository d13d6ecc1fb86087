"""Ctrl-C while training, and the main loop that begins and ends where it is told to."""

from __future__ import annotations

import os
import signal

import pytest

from cluster.interrupts import StopRequest
from configs.errors import Interrupted
from tests.fake_cluster import FakeCluster, run


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_waits_for_the_end_of_the_step_and_the_second_does_not():
    lines: list[str] = []
    with StopRequest(lines.append) as stop:
        stop.end_if_made(1)
        press_ctrl_c()
        assert len(lines) == 1 and "after this step" in lines[0]
        with pytest.raises(Interrupted, match="stopped after step 2"):
            stop.end_if_made(2)
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_outside_of_the_block_ctrl_c_is_pythons_own():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(print):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


class StopsAfter:
    def __init__(self, step: int) -> None:
        self._step = step

    def end_if_made(self, step: int) -> None:
        if step == self._step:
            raise Interrupted(f"stopped after step {step}")


def test_the_loop_ends_only_when_its_step_is_safe():
    cluster = FakeCluster()
    with pytest.raises(Interrupted):
        run(cluster, num_steps=5, stop=StopsAfter(2))
    assert [event for event in cluster.events if event[0] in ("record", "checkpoint")] == [
        ("record", 1), ("checkpoint", 1), ("record", 2), ("checkpoint", 2),
    ]  # fmt: skip


def test_the_loop_goes_on_with_any_step_from_the_version_before_it():
    cluster = run(FakeCluster(), first_step=4, num_steps=5)
    assert [event[1] for event in cluster.events if event[0] == "update"] == [4, 5]
    assert [event[2] for event in cluster.events if event[0] == "generate"] == [3, 4]
