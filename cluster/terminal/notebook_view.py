"""Shows a run in one output of a notebook, which is replaced as the run goes on; needs no widgets."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import IO

from rich.console import Console, RenderableType

from floe.cluster.terminal.progress import MIN_COLUMNS, Progress
from floe.cluster.terminal.run_view import view
from floe.cluster.terminal.shown_text import ShownConsole

PERIOD_S = 1.0
MAX_LINES = 40  # kept of what is printed
PRE = '<pre style="line-height:1.25;white-space:pre-wrap">{code}</pre>'


def plain_console(file: IO[str], columns: int = MIN_COLUMNS) -> Console:
    """Return a console that writes plain lines, whatever a notebook's kernel says of terminals in its variables."""
    return ShownConsole(
        file=file,
        width=columns,
        force_jupyter=False,
        force_terminal=False,
        force_interactive=False,
        color_system=None,
        highlight=False,
    )


def html_of(render: Callable[[Console], object], columns: int = MIN_COLUMNS) -> str:
    """Return what `render` prints to a console, as HTML with its colours."""
    console = ShownConsole(
        file=io.StringIO(), record=True, width=columns, force_jupyter=False, force_terminal=True, highlight=False
    )
    render(console)
    return console.export_html(inline_styles=True, code_format=PRE)


def text_of(render: Callable[[Console], object], columns: int = MIN_COLUMNS) -> str:
    """Return what `render` prints to a console, as plain text."""
    written = io.StringIO()
    render(plain_console(written, columns))
    return written.getvalue().rstrip("\n")


@contextmanager
def notebook_progress(num_steps: int) -> Iterator[Progress]:
    """Yield a progress that the present cell shows in a single output; its last lines stay there."""
    from IPython.display import HTML, display  # there in every notebook

    lines = _LastLines()
    progress = Progress(plain_console(lines), num_steps)
    output = display(HTML(""), display_id=True)
    ended = threading.Event()

    def keep_on() -> None:
        shown = ""
        while not ended.wait(PERIOD_S):
            if (now := lines.html() + _html(view(progress.watched()))) != shown:
                output.update(HTML(now))
                shown = now

    thread = threading.Thread(target=keep_on, name="notebook-view", daemon=True)
    thread.start()
    try:
        with progress.viewed():
            yield progress
    finally:
        ended.set()
        thread.join()
        output.update(HTML(lines.html()))


def _html(shown: RenderableType) -> str:
    return html_of(lambda console: console.print(shown))


class _LastLines(io.StringIO):
    """File that keeps its last lines."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rest = ""

    def write(self, text: str) -> int:
        with self._lock:
            *whole, self._rest = (self._rest + text).split("\n")
            self._lines.extend(whole)
        return len(text)

    def html(self) -> str:
        with self._lock:
            return PRE.format(code=escape("\n".join(self._lines)))
