"""Progress of a run for a person: phases, and a line per step with the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.text import Text

from floe.cluster.health.finding import HealthFinding
from floe.cluster.messages import WarmStartBatch
from floe.cluster.terminal import run_view
from floe.cluster.terminal.run_view import Watched
from floe.cluster.terminal.shown_text import ShownConsole
from floe.cluster.time_plan.forecast import Forecast, Mark
from floe.cluster.time_plan.plan import TimePlan
from floe.cluster.tracking.gpu_step import GpuStep
from floe.cluster.tracking.step_metrics import InterimResult, StepMetrics

STEPS_PHASE = "GRPO"
NUM_RECENT_STEPS = 5
PART_EVERY_S = 30.0  # seconds between two lines of a long phase that nothing draws
LONG_INPUT = 50  # number of things from which a progress bar is worth it
MIN_COLUMNS = 100  # columns of a file or a job's log, for which Rich assumes 80


def make_console(stderr: bool = False) -> Console:
    """Make a console that colours a terminal and writes plain lines of up to 100 columns elsewhere."""
    console = ShownConsole(stderr=stderr, highlight=False)
    return console if console.is_terminal else ShownConsole(stderr=stderr, highlight=False, width=MIN_COLUMNS)


Advance = Callable[[int], object]


def show_nothing(_: int) -> None:
    """Show nothing: progress that nobody watches."""


def ignore_mark(_: Mark) -> None:
    """Ignore the mark: a record that nobody keeps."""


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """Show a bar on stderr for many things, removed at the end, on a terminal; otherwise nothing."""
    console = make_console(stderr=True)
    if total < LONG_INPUT or not sys.stderr.isatty() or not shown:
        yield show_nothing
        return
    # Rich would send what is printed on stdout to the bar's console.
    with Bar(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


class Progress:
    """Progress of one run. Prints a line as it is told, so that a job's log reads like the terminal.

    While it `is_viewed`, its contents are drawn elsewhere: steps then have no line, and a note has one when newer notes
    have replaced it in the view. Any thread may call it, and a signal's handler.
    """

    def __init__(self, console: Console, num_steps: int = 0) -> None:
        self.console = console
        self.current_phase = ""
        self.num_steps_done = 0  # a resumed run sets it to the number already done
        self.num_steps = num_steps  # 0 while they are not known
        self._start_s = self._phase_start_s = self._step_end_s = time.monotonic()
        self._recent_step_s: deque[float] = deque(maxlen=NUM_RECENT_STEPS)
        self._forecast: Forecast | None = None
        self._keep: Callable[[Mark], object] = ignore_mark
        self._part, self._part_printed_s = "", self._start_s
        self._last: StepMetrics | None = None
        self._gpus: GpuStep | None = None
        self._evaluated: InterimResult | None = None
        self._best: InterimResult | None = None
        self._finding: HealthFinding | None = None
        self._notes: deque[str] = deque()  # not printed yet
        self._is_step_printed = True  # the last one
        self._is_viewed = False
        self.printing = threading.RLock()  # held while printing or drawing; a handler may interrupt that
        self._lock = threading.RLock()  # of the notes; nothing is printed under it, since drawing needs it

    def phase(self, name: str) -> None:
        """Say that a phase ("set-up", "warm start", "GRPO", "evaluation") begins."""
        self._print_rest()
        self.current_phase = name
        self._recent_step_s.clear()
        self._phase_start_s = self._step_end_s = self._part_printed_s = time.monotonic()
        self._part = ""
        if self._forecast is not None:
            with self._lock:
                self._forecast.phase(name, self._run_s)
        self._mark(name)
        self._print(run_view.phase_line(name, self._phase_start_s - self._start_s))

    def note(self, text: str) -> None:
        """One line within the phase."""
        with self._lock:
            self._notes.append(text)
        self._print_notes(run_view.NUM_NOTES if self._is_viewed else 0)

    def finding(self, found: HealthFinding) -> None:
        """Report what the health guard found after a step."""
        self._finding = found
        self.note(run_view.finding_note(found))

    def planned(self, plan: TimePlan, keep: Callable[[Mark], object]) -> None:
        """Use the plan for the time left from here on, corrected by what is seen; `keep` gets each phase and step."""
        self._forecast, self._keep = Forecast(plan), keep
        self._mark(self.current_phase)

    def finished(self) -> None:
        """Report that the run has ended."""
        self._mark("")

    def batch(self, done: WarmStartBatch) -> None:
        """Report that a batch of the warm start has ended."""
        with self._lock:
            if self._forecast is None:
                left_s = (done.max_number - done.number) * done.seconds
            else:
                self._forecast.batch(done.number, done.max_number, done.seconds, self._run_s)
                left_s = self._forecast.phase_left_s(self._run_s)
        self._show_part(run_view.batch_part(done.number, done.max_number, left_s))

    def answers(self, num_answered: int, num_asked: int) -> None:
        """Report that so many answers of an evaluation are there."""
        with self._lock:
            if self._forecast is not None:
                self._forecast.answers(num_answered, num_asked, self._run_s)
        self._show_part(run_view.answers_part(num_answered, num_asked))

    def step(self, record: StepMetrics, num_steps: int, gpus: GpuStep | None = None) -> None:
        """A step of `num_steps` has ended."""
        if self._forecast is not None:
            with self._lock:
                self._forecast.step(record.step_s, record.rollout_s, num_steps - record.step, self._run_s)
        self._part = ""
        self.num_steps_done, self.num_steps = record.step, num_steps
        self._last, self._gpus, self._step_end_s = record, gpus, time.monotonic()
        self._recent_step_s.append(record.step_s)
        self._is_step_printed = False
        self._mark(self.current_phase)
        if not self._is_viewed:
            self._print_last_step()

    def evaluated(self, result: InterimResult) -> None:
        """Report that held-back questions were answered between two steps."""
        if self._forecast is not None:
            with self._lock:
                self._forecast.interim(result.seconds, self._run_s)
        self._part = ""
        self._evaluated = result
        self._best = result if result.is_best else self._best
        self.note(run_view.evaluation_note(result))

    @contextmanager
    def viewed(self) -> Iterator[None]:
        """Let something draw `watched` meanwhile. What only the view showed is printed at the end."""
        self._is_viewed = True
        try:
            yield
        finally:
            self._is_viewed = False
            self._print_rest()

    def watched(self) -> Watched:
        now_s = time.monotonic()
        with self._lock:
            notes = tuple(self._notes)
        is_in_steps = self.current_phase == STEPS_PHASE and self.num_steps > 0
        return Watched(
            phase=self.current_phase,
            phase_s=now_s - self._phase_start_s,
            run_s=now_s - self._start_s,
            step=min(self.num_steps_done + 1, self.num_steps) if is_in_steps else 0,
            num_steps=self.num_steps,
            left_s=self.left_s,
            part=self._part,
            last=self._last,
            gpus=self._gpus,
            evaluated=self._evaluated,
            best=self._best,
            finding=self._finding,
            notes=notes,
        )

    @property
    def part(self) -> str:
        """Position within a long phase."""
        return self._part

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of the run, without a plan of the last step; None while unknown."""
        with self._lock:
            if self._forecast is not None:
                return self._forecast.left_s(self._run_s)
        recent = tuple(self._recent_step_s)
        if not recent:
            return None
        since_s = time.monotonic() - self._step_end_s
        return max(0.0, (self.num_steps - self.num_steps_done) * sum(recent) / len(recent) - since_s)

    @property
    def _run_s(self) -> float:
        return time.monotonic() - self._start_s

    def _mark(self, phase: str) -> None:
        left_s = self.left_s if phase and self._forecast is not None else None
        self._keep(Mark(at_s=self._run_s, phase=phase, step=self.num_steps_done, left_s=left_s))

    def _show_part(self, text: str) -> None:
        """Show the part in the view, or as a line now and then."""
        self._part = text
        now_s = time.monotonic()
        if not self._is_viewed and now_s - self._part_printed_s >= PART_EVERY_S:
            self._part_printed_s = now_s
            self._print(run_view.note_line(text))

    def _print_rest(self) -> None:
        """Print what only the view has shown."""
        self._print_notes(0)
        if not self._is_step_printed:
            self._print_last_step()

    def _print_last_step(self) -> None:
        assert self._last is not None
        self._is_step_printed = True
        self._print(run_view.step_line(self._last, self.num_steps, self.left_s or 0.0))

    def _print_notes(self, num_kept: int) -> None:
        with self.printing:
            with self._lock:
                due = [self._notes.popleft() for _ in range(len(self._notes) - num_kept)]
            for text in due:
                self._print(run_view.note_line(text))

    def _print(self, line: Text) -> None:
        with self.printing:
            self.console.print(line, soft_wrap=True)
