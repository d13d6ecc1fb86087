"""Draws the view of a run at the foot of a terminal, with rich's Live."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.live import Live

from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import view

PERIOD_S = 0.5


@contextmanager
def live_view(progress: Progress) -> Iterator[None]:
    """Show the view on a terminal, below everything printed meanwhile, and remove it at the end; elsewhere do nothing.

    Whatever ends the block, the terminal is as it was.
    """
    console = progress.console
    if not console.is_interactive:
        yield
        return
    live = Live(
        _Current(progress),
        console=console,
        auto_refresh=False,  # its thread and one that prints could draw from different heights
        transient=True,
        redirect_stderr=sys.stderr.isatty(),  # otherwise the user has redirected it
    )
    with progress.viewed(), live, _logs_above_the_view(), _redrawn(live, progress.printing):
        yield


class _Current:
    """The renderable of the present moment."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich__(self) -> RenderableType:
        return view(self._progress.watched())


@contextmanager
def _redrawn(live: Live, printing: threading.RLock) -> Iterator[None]:
    stop = threading.Event()

    def keep_on() -> None:
        while not stop.wait(PERIOD_S):
            with printing:
                live.refresh()

    thread = threading.Thread(target=keep_on, name="live-view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _logs_above_the_view() -> Iterator[None]:
    """Redirect handlers made earlier: Live has replaced sys.stderr, and they would write into the view."""
    behind = getattr(sys.stderr, "rich_proxied_file", None)
    names = [None, *logging.root.manager.loggerDict]
    found = [handler for name in names for handler in logging.getLogger(name).handlers]
    moved = [one for one in found if isinstance(one, logging.StreamHandler) and one.stream is behind is not None]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(behind)
