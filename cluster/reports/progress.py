"""What a person sees while a run works: phases, and a line per step with the time left."""

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

from cluster.reports import run_view
from cluster.reports.run_view import Watched
from cluster.reports.step_metrics import InterimResult, StepMetrics

STEPS_PHASE = "GRPO"
NUM_RECENT_STEPS = 5
LONG_INPUT = 50  # things that are worth a progress bar
MIN_COLUMNS = 100  # of a file or a job's log, for which Rich assumes 80


def make_console(stderr: bool = False) -> Console:
    """A console that colours a terminal and writes plain lines of up to 100 columns elsewhere."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=MIN_COLUMNS)


Advance = Callable[[int], object]


def show_nothing(_: int) -> None:
    """The progress that nobody watches."""


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """On a terminal a bar on stderr, gone at the end, for many things; else nothing."""
    console = make_console(stderr=True)
    if total < LONG_INPUT or not sys.stderr.isatty() or not shown:
        yield show_nothing
        return
    # Rich would send what is printed on stdout to the bar's console.
    with Bar(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


class Progress:
    """Of one run. Prints a line as it is told, so that a job's log reads like the terminal.

    While it `is_viewed`, what it knows is drawn elsewhere: steps then have no line, and a note has one when newer notes
    have taken its place in the view. Any thread may call it, and a signal's handler.
    """

    def __init__(self, console: Console, num_steps: int = 0) -> None:
        self.console = console
        self.current_phase = ""
        self.num_steps_done = 0  # a run that is resumed sets it to what was done before
        self._num_steps = num_steps
        self._start_s = self._phase_start_s = self._step_end_s = time.monotonic()
        self._recent_step_s: deque[float] = deque(maxlen=NUM_RECENT_STEPS)
        self._last: StepMetrics | None = None
        self._evaluated: InterimResult | None = None
        self._best: InterimResult | None = None
        self._notes: deque[str] = deque()  # not printed yet
        self._is_step_printed = True  # the last one
        self._is_viewed = False
        self.printing = threading.RLock()  # who prints or draws holds it; a handler may interrupt the thread that does
        self._lock = threading.RLock()  # of the notes; nothing is printed under it, since who draws asks for it

    def phase(self, name: str) -> None:
        """Say that a phase ("set-up", "warm start", "GRPO", "evaluation") begins."""
        self._print_rest()
        self.current_phase = name
        self._recent_step_s.clear()
        self._phase_start_s = self._step_end_s = time.monotonic()
        self._print(run_view.phase_line(name, self._phase_start_s - self._start_s))

    def note(self, text: str) -> None:
        """One line within the phase."""
        with self._lock:
            self._notes.append(text)
        self._print_notes(run_view.NUM_NOTES if self._is_viewed else 0)

    def step(self, record: StepMetrics, num_steps: int) -> None:
        """A step of `num_steps` has ended."""
        self.num_steps_done, self._num_steps = record.step, num_steps
        self._last, self._step_end_s = record, time.monotonic()
        self._recent_step_s.append(record.step_s)
        self._is_step_printed = False
        if not self._is_viewed:
            self._print_last_step()

    def evaluated(self, result: InterimResult) -> None:
        """Held-back questions were answered between two steps."""
        self._evaluated = result
        self._best = result if result.is_best else self._best
        self.note(run_view.evaluation_note(result))

    @contextmanager
    def viewed(self) -> Iterator[None]:
        """While something draws `watched`. What only the view showed is printed at the end."""
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
        is_in_steps = self.current_phase == STEPS_PHASE and self._num_steps > 0
        return Watched(
            phase=self.current_phase,
            phase_s=now_s - self._phase_start_s,
            run_s=now_s - self._start_s,
            step=min(self.num_steps_done + 1, self._num_steps) if is_in_steps else 0,
            num_steps=self._num_steps,
            left_s=max(0.0, self._left_s - (now_s - self._step_end_s)) if self._recent_step_s else None,
            last=self._last,
            evaluated=self._evaluated,
            best=self._best,
            notes=notes,
        )

    @property
    def _left_s(self) -> float:
        """From the end of the last step."""
        recent = tuple(self._recent_step_s)
        return (self._num_steps - self.num_steps_done) * sum(recent) / len(recent)

    def _print_rest(self) -> None:
        """What the view alone has shown."""
        self._print_notes(0)
        if not self._is_step_printed:
            self._print_last_step()

    def _print_last_step(self) -> None:
        assert self._last is not None
        self._is_step_printed = True
        self._print(run_view.step_line(self._last, self._num_steps, self._left_s))

    def _print_notes(self, num_kept: int) -> None:
        with self.printing:
            with self._lock:
                due = [self._notes.popleft() for _ in range(len(self._notes) - num_kept)]
            for text in due:
                self._print(run_view.note_line(text))

    def _print(self, line: Text) -> None:
        with self.printing:
            self.console.print(line, soft_wrap=True)
