"""What a person sees while a run works: phases, and a line per step with the time left."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.text import Text

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
    """Prints as it is told and draws nothing over: a job's log reads like the terminal. Any thread may call it."""

    def __init__(self, console: Console) -> None:
        self.current_phase = ""
        self.num_steps_done = 0  # a run that is resumed sets it to what was done before
        self._console = console
        self._start_s = time.monotonic()
        self._recent_step_s: deque[float] = deque(maxlen=NUM_RECENT_STEPS)

    def phase(self, name: str) -> None:
        """Say that a phase ("set-up", "warm start", "GRPO", "evaluation") begins."""
        self.current_phase = name
        self._recent_step_s.clear()
        elapsed = duration(time.monotonic() - self._start_s)
        self._print(Text.assemble((name, "bold cyan"), f"  (after {elapsed})"))

    def note(self, text: str) -> None:
        """One line within the phase."""
        self._print(Text(f"  {text}"))

    def step(
        self, step: int, total: int, reward_mean: float, correct_share: float, tokens_per_s: float, step_s: float
    ) -> None:
        """One line for step `step` of `total` (counted from 1), which took `step_s` seconds."""
        self.num_steps_done = step
        self._recent_step_s.append(step_s)
        left_s = (total - step) * sum(self._recent_step_s) / len(self._recent_step_s)
        self._print(
            Text.assemble(
                (f"  step {step:>{len(str(total))}}/{total}", "bold"),
                f"  reward {reward_mean:.3f}  correct {100 * correct_share:5.1f} %",
                f"  {tokens_per_s:6.0f} tokens/s  {step_s:5.1f} s",
                (f"  {duration(left_s)} left", "dim"),
            )
        )

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
