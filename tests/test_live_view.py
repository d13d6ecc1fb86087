"""The terminal's view of a run: alone, drawn by Rich, and on a real pseudo-terminal."""

import io
import math
import os
import pty
import select
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from floe.cluster.terminal.live_terminal import live_view
from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import NUM_NOTES, Watched, number, percent, view
from floe.cluster.tracking.step_metrics import InterimResult
from tests.command_line import REPOSITORY
from tests.step_records import step_record
from tests.terminal_screen import Screen

COLUMNS = 80
WIDE = 120  # so that no line is broken
DEADLINE_S = 600
RESULT = InterimResult(adapter_version=5, greedy=0.5, executes=0.75, num_questions=24, seconds=1.0, is_best=True)
WATCHED = Watched(
    phase="GRPO",
    phase_s=61,
    run_s=125,
    step=8,
    num_steps=20,
    left_s=90,
    last=step_record(7, kl=0.0123, tokens_per_s=812.3),
    evaluated=replace(RESULT, adapter_version=6, greedy=0.25, is_best=False),
    best=RESULT,
    notes=("warning: [1] swap is in use",),
)


def shown(watched: Watched, columns: int = COLUMNS) -> str:
    console = Console(file=io.StringIO(), width=columns)
    console.print(view(watched))
    return console.file.getvalue()


def test_the_view_has_every_figure():
    text = shown(WATCHED)
    for part in (
        "warning: [1] swap is in use", "GRPO", "step 8 of 20", "1 min 30 s left", "running 2 min 05 s",
        "reward 0.367", "correct 33.3 %", "executes 66.7 %", "equal rewards 0.0 %",
        "KL 0.0123", "gradient norm 1.500", "tokens/s 812",
        "step 7 took 5.5 s", "rollout 2.0 s", "reward 0.5 s", "learn 3.0 s", "sync 0.1 s",
        "25.0 % of 24 right with version 6", "best 50.0 % with version 5",
    ):  # fmt: skip
        assert part in text


def test_the_time_of_a_handover_is_shown_where_there_is_one():
    assert "handover" not in shown(WATCHED)
    assert "handover 2.0 s" in shown(replace(WATCHED, last=step_record(7, handover_s=2.0)))


def test_before_the_first_step_there_is_only_the_phase():
    lines = shown(replace(WATCHED, phase="warm start", step=0, last=None, evaluated=None, notes=())).splitlines()
    assert len(lines) == 2 and lines[1].split("  ")[:2] == ["warm start", "for 1 min 01 s"] and "step" not in lines[1]


def test_what_is_not_a_number_is_a_dash():
    unknown = step_record(7, correct_share=math.nan, executes_share=math.nan, kl=None, tokens_per_s=math.nan)
    text = shown(replace(WATCHED, last=unknown))
    assert "nan" not in text
    assert all(part in text for part in ("correct -", "executes -", "KL -", "tokens/s -"))
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(console)
    progress.step(unknown, 20)
    progress.step(step_record(8), 20)
    plain, with_number = console.file.getvalue().splitlines()
    assert "correct       -  " in plain and "nan" not in plain
    assert plain.index("tokens/s") == with_number.index("tokens/s")


@given(value=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
def test_a_figure_is_a_number_or_a_dash(value):
    is_known = value is not None and math.isfinite(value)
    assert (number(value) != "-") == is_known
    assert (percent(math.nan if value is None else value) != "-") == is_known


@pytest.mark.parametrize("columns", [30, 50, 80, 200])
def test_no_line_is_wider_than_the_terminal(columns):
    assert all(len(line.rstrip()) <= columns for line in shown(WATCHED, columns).splitlines())


def on_a_terminal(act) -> tuple[Screen, list[str]]:
    """Return the screen after `act(progress, look)`, and the whole of it at each call of `look`."""
    console = Console(file=io.StringIO(), force_terminal=True, width=WIDE, height=40, _environ={"TERM": "xterm"})
    progress = Progress(console, num_steps=20)
    seen = []

    def look() -> None:
        console.print("", end="")  # draws the view again
        screen = Screen(WIDE)
        screen.write(console.file.getvalue())
        assert not screen.is_cursor_shown
        seen.append("\n".join(screen.lines))

    screen = Screen(WIDE)
    try:
        with live_view(progress):
            act(progress, look)
    finally:
        screen.write(console.file.getvalue())
    return screen, seen


def test_the_view_takes_the_place_of_the_lines_of_steps():
    def act(progress, look):
        progress.phase("GRPO")
        progress.step(step_record(1), 20)
        progress.step(step_record(2), 20)
        look()
        progress.phase("evaluation after")
        look()

    screen, (training, evaluating) = on_a_terminal(act)
    assert "step 3 of 20" in training and "step 2 took" in training
    assert "2/20" not in training
    # A phase leaves its last step's line.
    assert "1/20" not in evaluating and evaluating.count("step  2/20") == 1 and "step 3 of" not in evaluating
    assert screen.is_cursor_shown
    assert [line.split("  ")[0] for line in screen.lines if line.strip()][::2] == ["GRPO", "evaluation after"]


def test_every_note_is_readable_once_and_in_order():
    notes = [f"warning: number {i}" for i in range(NUM_NOTES + 3)]

    def act(progress, look):
        progress.phase("set-up")
        for text in notes:
            progress.note(text)
        look()

    screen, (during,) = on_a_terminal(act)
    for lines in (screen.lines, during.splitlines()):
        assert [line.strip() for line in lines if "warning" in line] == notes
    rule = next(i for i, line in enumerate(during.splitlines()) if line.startswith("─"))
    assert all("warning" not in line for line in during.splitlines()[rule:])


def test_notes_of_several_threads_are_all_there():
    from concurrent.futures import ThreadPoolExecutor

    def act(progress, look):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: progress.note(f"note {i}."), range(200)))

    screen, _ = on_a_terminal(act)
    assert sorted(line.strip() for line in screen.lines if "note" in line) == sorted(f"note {i}." for i in range(200))


def test_an_error_leaves_the_terminal_as_it_was(capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=COLUMNS, _environ={"TERM": "xterm"})
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="broken"), live_view(Progress(console)):
        assert sys.stdout is not before[0]
        raise ValueError("broken")
    assert (sys.stdout, sys.stderr) == before
    screen = Screen(COLUMNS)
    screen.write(console.file.getvalue())
    assert screen.is_cursor_shown and not any(screen.lines)


def test_elsewhere_there_are_only_plain_lines():
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(console, num_steps=20)
    with live_view(progress):
        progress.phase("GRPO")
        progress.note("a note")
        progress.step(step_record(1), 20)
        progress.evaluated(RESULT)
    lines = console.file.getvalue().splitlines()
    assert (
        lines[0].startswith("GRPO  (after ") and lines[1] == "  a note" and lines[2].startswith("  step  1/20  reward")
    )
    assert lines[3:] == ["  version 5: 50.0 % of 24 held-back questions right, best so far"]
    assert "\x1b" not in console.file.getvalue()


class Terminal:
    """A pseudo-terminal with a run in it."""

    def __init__(self, end: str, run_dir: Path) -> None:
        self.text = ""
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(REPOSITORY)
                settings = {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": str(WIDE), "LINES": "40"}
                command = [sys.executable, "-m", "tests.watched_run", end, str(run_dir)]
                os.execve(sys.executable, command, os.environ | settings)
            finally:
                os._exit(70)

    def read_until(self, part: str) -> None:
        """Read until the part comes, or to the end."""
        deadline_s = time.monotonic() + DEADLINE_S
        while part not in self.text:
            assert select.select([self._file], [], [], deadline_s - time.monotonic())[0], self.text
            try:
                self.text += os.read(self._file, 2**16).decode()
            except OSError:  # the other side is closed
                return

    def press_ctrl_c(self) -> None:
        os.write(self._file, b"\x03")

    def exit_code(self) -> int:
        self.read_until("what is never written")
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def screen(self) -> Screen:
        screen = Screen(WIDE)
        screen.write(self.text)
        return screen


LASTING = ["set-up", *[f"warning: set-up note {i}" for i in range(6)], "GRPO", "a library's warning"]


def rows(screen: Screen) -> list[str]:
    return [line.strip().split("  ")[0] for line in screen.lines if line]


def test_a_run_that_ends_leaves_its_lines_and_the_table(tmp_path):
    terminal = Terminal("finish", tmp_path)
    assert terminal.exit_code() == 0
    assert terminal.screen.is_cursor_shown
    assert rows(terminal.screen) == [
        *LASTING, "what a library prints", "version 5: 50.0 % of 24 held-back questions right, best so far",
        "step", "the table", "files of the run",
    ]  # fmt: skip


def test_a_failures_first_screen_comes_after_the_view(tmp_path):
    terminal = Terminal("fail", tmp_path)
    assert terminal.exit_code() == 1
    assert terminal.screen.is_cursor_shown
    found = rows(terminal.screen)
    assert found[: len(LASTING)] == LASTING
    assert found.index("step") == len(found) - 4
    assert "the disk is on fire" in " ".join(found[-3:]) and found[-1].startswith("log: ")


def test_ctrl_c_is_answered_within_the_view_and_ends_with_the_step(tmp_path):
    terminal = Terminal("wait", tmp_path)
    terminal.read_until("step 7 took")
    terminal.press_ctrl_c()
    assert terminal.exit_code() == 130
    assert terminal.screen.is_cursor_shown
    assert "stopping after this step; Ctrl-C again leaves at once, without it" in rows(terminal.screen)
