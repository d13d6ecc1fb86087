"""Ctrl-C, SIGTERM and SIGHUP, and the main loop that begins and ends where it is told to."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from floe.cluster.loop import stop_request as interrupts
from floe.cluster.loop.stop_request import StopRequest, own_signals, terminations_as_ctrl_c
from floe.configs.errors import ActorsLost, Interrupted, UserError
from tests.command_line import REPOSITORY
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


TERMINATIONS = [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", TERMINATIONS)
def test_a_termination_waits_for_the_end_of_the_step_however_often_it_comes(number):
    lines: list[str] = []
    with StopRequest(lines.append, limit_s=600) as stop:
        for _ in range(3):  # a scheduler sends it to every process, and a supervisor hands it on
            os.kill(os.getpid(), number)
        assert len(lines) == 1 and number.name in lines[0] and "600 s" in lines[0]
        with pytest.raises(Interrupted, match="stopped after step 2"):
            stop.end_if_made(2)
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_a_step_that_takes_longer_than_the_limit_is_left():
    with pytest.raises(KeyboardInterrupt), StopRequest(lambda line: None, limit_s=0.01):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)


def test_after_a_stop_the_clean_up_is_not_disturbed():
    with terminations_as_ctrl_c():
        with StopRequest(lambda line: None, limit_s=600):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", TERMINATIONS)
def test_outside_of_a_step_a_termination_is_ctrl_c_once(number):
    before = signal.getsignal(number)
    with terminations_as_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminations_as_ctrl_c(), StopRequest(print) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_made
    finally:
        signal.signal(signal.SIGHUP, before)


STUCK = """
import os, signal, subprocess, sys, threading
from floe.cluster.loop import stop_request as interrupts
interrupts.CLEAN_UP_LIMIT_S = 0.1
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
with interrupts.terminations_as_ctrl_c(), interrupts.last_act(lambda: print("last act", flush=True)):
    try:
        with interrupts.StopRequest(lambda line: None, limit_s=0.1):
            os.kill(os.getpid(), signal.SIGTERM)
            child.wait()
    finally:
        while True:
            with __import__("contextlib").suppress(KeyboardInterrupt):
                threading.Event().wait()
"""


def test_a_clean_up_that_never_ends_is_ended_with_its_last_act_and_no_process():
    done = subprocess.run(
        [sys.executable, "-P", "-c", STUCK], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    pid, said = done.stdout.split("\n", 1)
    assert (done.returncode, said) == (130, "last act\n")
    deadline_s = time.monotonic() + 300  # it was ended; its end takes some time
    while is_running(int(pid)):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_that_goes_on_after_a_stop_is_not_ended(monkeypatch):
    ends = []
    monkeypatch.setattr(interrupts, "_end_now", lambda: ends.append("ended"))
    monkeypatch.setattr(interrupts, "STOP_LIMIT_S", 600.0)

    with pytest.raises(KeyboardInterrupt), terminations_as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
    with terminations_as_ctrl_c(), StopRequest(lambda line: None, limit_s=600):
        os.kill(os.getpid(), signal.SIGTERM)
        assert timers()
    for timer in timers():
        timer.join()
    assert not ends


def timers() -> list[threading.Timer]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_the_processes_of_a_library_ignore_a_hangup_and_this_one_hears_it():
    code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    with terminations_as_ctrl_c():
        ours = signal.getsignal(signal.SIGHUP)
        with own_signals():
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert signal.getsignal(signal.SIGHUP) is ours
    assert done.stdout == "True\n"


def test_a_librarys_handler_gives_way_to_the_one_before_it():
    with terminations_as_ctrl_c():
        ours = signal.getsignal(signal.SIGTERM)
        with own_signals():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        assert signal.getsignal(signal.SIGTERM) is ours


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (ActorsLost("the learner died"), Interrupted),  # no other driver may be started for it
        (ConnectionError("the raylet is gone"), Interrupted),
        (UserError("The disk is full."), UserError),
    ],
)
def test_what_is_lost_with_a_stop_is_part_of_it(fault, seen):
    with pytest.raises(UserError) as found, StopRequest(lambda line: None, limit_s=600):
        os.kill(os.getpid(), signal.SIGTERM)
        raise fault
    assert type(found.value) is seen
    with pytest.raises(type(fault)), StopRequest(print):
        raise fault


HUNG_UP = """
import sys, time
from floe.cluster.loop import stop_request as interrupts
from floe.cluster.loop.stop_request import StopRequest, terminations_as_ctrl_c
with terminations_as_ctrl_c(), StopRequest(print) as stop:
    print("up", flush=True)
    while not stop.is_made:
        time.sleep(0.01)
    print("a line that nobody sees", flush=True)
open(sys.argv[1], "w").write("ended in order")
"""


def test_a_terminal_that_closes_lets_the_step_end(tmp_path):
    user_side, run_side = pty.openpty()
    driver = subprocess.Popen(
        [sys.executable, "-P", "-c", HUNG_UP, str(tmp_path / "end")],
        stdin=run_side, stdout=run_side, stderr=run_side, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(run_side)
    try:
        while b"up" not in os.read(user_side, 100):
            pass
    finally:
        os.close(user_side)  # the system sends SIGHUP to the session's leader
    assert driver.wait(timeout=300) == 0
    assert (tmp_path / "end").read_text() == "ended in order"


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
