"""A driver that dies is started again and told to continue; one that ended by itself is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from floe.cluster.training import supervisor
from floe.configs.errors import EXIT_CODE_LOST


@pytest.fixture
def ends(monkeypatch, tmp_path):
    """Let drivers end one after another with these exit codes, negative ones by that signal; return their arguments."""
    started: list[list[str]] = []

    def use(*codes: int, is_ended: bool = False):
        left = list(codes)

        def fake(arguments):
            started.append(list(arguments))
            return left.pop(0), is_ended

        monkeypatch.setattr(supervisor, "_run", fake)
        return started

    return use


@pytest.mark.parametrize("code", [0, 2, 130])
def test_an_end_of_its_own_is_final(ends, tmp_path, code):
    started = ends(code)
    assert supervisor.supervise(["train", "--config", "c.yaml"], tmp_path, 3, print) == code
    assert started == [["train", "--config", "c.yaml", supervisor.DRIVER_ITSELF]]


def test_a_death_is_followed_by_a_resume_until_it_ends_well(ends, tmp_path):
    started, notes = ends(-signal.SIGKILL, EXIT_CODE_LOST, 0), []
    assert supervisor.supervise(["train", "--config", "c.yaml"], tmp_path, 3, notes.append) == 0
    assert started[1:] == [["train", "--resume", str(tmp_path), supervisor.DRIVER_ITSELF]] * 2
    assert "SIGKILL" in notes[0] and "attempt 2 of 4" in notes[0] and "exit code 4" in notes[1]


def test_a_driver_that_was_told_to_end_is_not_started_again(ends, tmp_path):
    started = ends(-15, is_ended=True)
    assert supervisor.supervise(["train"], tmp_path, 3, print) == -15
    assert len(started) == 1


def test_retries_come_to_an_end(ends, tmp_path):
    started = ends(-9, -9, -9)
    assert supervisor.supervise(["train"], tmp_path, 1, lambda line: None) == -9
    assert len(started) == 2


SUPERVISED = """
import sys
from floe.cluster.training import supervisor
sys.exit(supervisor._run(["version"])[0])
"""


def test_the_real_driver_is_floe_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISED], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0 and done.stdout.strip()


FORWARDING = '''
import subprocess, sys
from floe.cluster.training import supervisor
real = subprocess.Popen
code = """import signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(number))
print('up', flush=True)
time.sleep(60)"""
subprocess.Popen = lambda arguments, **options: real([sys.executable, "-c", code], **options)
sys.exit(supervisor._run(["train"])[0])
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_asks_for_the_end_reaches_the_driver(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", FORWARDING], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert parent.stdout is not None and parent.stdout.readline() == "up\n"
    os.kill(parent.pid, number)
    assert parent.wait(timeout=300) == number
