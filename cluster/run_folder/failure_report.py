"""The first screen of a failure: what failed, where, why, what to do, and where the full trace is."""

from __future__ import annotations

import re
import socket
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from floe.configs.errors import UserError

FAILURE_LOG = "failure.log"
# The head of the trace that Ray gives an error of another process, whose fields the error itself does not keep.
REMOTE_CALL = re.compile(r"ray::(?P<call>[^\s(]+)\(\)(?:\x1b\[39m)? \(pid=(?P<pid>\d+), ip=(?P<node>[\w.:-]+)")
MAX_CAUSES = 20  # errors followed from one to what raised it


def first_screen(error: BaseException) -> str:
    """Return the error as one sentence, then a line for each of its notes. An unexpected error's class is named."""
    notes = getattr(error, "__notes__", ())
    return "\n".join([f"floe: {_sentence(error)}", *(f"  {note}" for note in notes)])


def note_failure(error: BaseException, where: str, folder: Path, remedy: str = "") -> None:
    """Write the error's whole trace to `folder`; add notes on where it was, what to do, and that file's path.

    A folder that can't be written gives a note that says so.
    """
    place = ", ".join(part for part in (where, remote_place(error)) if part)
    if place:
        error.add_note(f"where: {place}")
    if remedy:
        error.add_note(f"then: {remedy}")
    path = folder / FAILURE_LOG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{datetime.now().isoformat(timespec='seconds')} on {socket.gethostname()}\n")
            log.write("".join(traceback.format_exception(error)) + "\n")
        error.add_note(f"log: {path}")
    except OSError as fault:
        error.add_note(f"log: none, since {path} can't be written ({fault.strerror})")


def remote_place(error: BaseException) -> str:
    """Return the call, process and node where it was raised, empty for this process."""
    for fault in causes(error):
        if found := REMOTE_CALL.search(str(fault)):
            return f"{found['call']} in process {found['pid']} on node {found['node']}"
    return ""


def _sentence(error: BaseException) -> str:
    # An error that was raised in another process comes wrapped, its own text under `cause`.
    cause = getattr(error, "cause", None) or error
    if isinstance(error, UserError):
        return str(cause)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    said = f"{type(cause).__name__}{': ' + lines[-1] if lines else ''}"
    return f"{said.rstrip('.')}: unexpected error; see the log."


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then what it was raised from or while handling, up to a limit."""
    current: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
