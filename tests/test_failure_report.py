"""The first screen of a failure: sentence, place, remedy and the file with the whole trace."""

from __future__ import annotations

import os
import re

import pytest
import ray
from ray.exceptions import RayTaskError

from floe.cluster.run_folder.failure_report import first_screen, note_failure
from floe.cluster.training.run_watch import run_watch
from floe.configs.errors import ResumeRefused, UserError


class Training:
    current_phase = "GRPO"
    num_steps_done = 4
    part, left_s = "", None

    def note(self, text: str) -> None:
        raise AssertionError(text)


def screen_of(run_dir, error: BaseException) -> list[str]:
    """Return the screen of a run that ends with the error."""
    with pytest.raises(type(error)) as raised, run_watch(run_dir, 20, Training()):
        raise error
    return first_screen(raised.value).splitlines()


def test_a_runs_failure_names_step_driver_and_log(tmp_path):
    lines = screen_of(tmp_path, UserError("The disk is full: free some."))
    log = tmp_path / "failure.log"
    assert lines == [
        "floe: The disk is full: free some.",
        f"  where: step 5 of 20, driver {os.getpid()}",
        f"  log: {log}",
    ]
    assert "UserError: The disk is full: free some." in log.read_text()


def test_a_run_that_has_steps_says_how_to_go_on(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert f"  then: floe train --resume {tmp_path} goes on from the last checkpoint" in screen_of(
        tmp_path, UserError("The disk is full: free some.")
    )


def test_a_resume_that_was_refused_is_not_told_to_resume(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert not any("then:" in line for line in screen_of(tmp_path, ResumeRefused("It would be another run: stop.")))


@pytest.mark.engine
def test_what_failed_in_another_process_names_call_process_and_node(tmp_path):
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote
        def reckon() -> float:
            return 1 / 0

        with pytest.raises(RayTaskError) as raised:
            ray.get(reckon.remote())
    finally:
        ray.shutdown()
    note_failure(raised.value, "", tmp_path)
    sentence, place, log = first_screen(raised.value).splitlines()
    assert sentence.startswith("floe: ZeroDivisionError: division by zero: ")
    assert re.fullmatch(r"  where: .*reckon in process \d+ on node [\d.]+", place)
    assert log == f"  log: {tmp_path / 'failure.log'}"


def test_a_folder_that_can_not_be_written_is_said_and_nothing_else_is_lost(tmp_path):
    (tmp_path / "file").write_text("")
    error = UserError("The port is busy: choose another.")
    note_failure(error, "set-up", tmp_path / "file" / "folder", "try again")
    assert first_screen(error).splitlines() == [
        "floe: The port is busy: choose another.",
        "  where: set-up",
        "  then: try again",
        f"  log: none, since {tmp_path / 'file' / 'folder' / 'failure.log'} can't be written (Not a directory)",
    ]


def test_failures_of_a_run_that_was_tried_again_are_all_kept(tmp_path):
    for number in range(3):
        note_failure(RuntimeError(f"fault {number}"), "set-up", tmp_path)
    written = (tmp_path / "failure.log").read_text()
    assert [written.count(f"RuntimeError: fault {number}") for number in range(3)] == [1, 1, 1]


def test_a_circle_of_causes_ends(tmp_path):
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    note_failure(one, "set-up", tmp_path)
    assert first_screen(one).splitlines()[1] == "  where: set-up"
