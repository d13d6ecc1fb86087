"""Ctrl-C, SIGTERM and SIGHUP: while a run trains the step may end first, else the command ends at once, in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

from floe.configs.errors import EXIT_CODE_INTERRUPTED, Interrupted, LostError, UserError

TERMINATIONS = (signal.SIGTERM, signal.SIGHUP)  # sent by schedulers, and by a terminal that closes
STOP_LIMIT_S = 20.0
CLEAN_UP_LIMIT_S = 8.0  # after this time: where other processes were ended too, a library may wait for them for minutes
_last_acts: list[Callable[[], object]] = []
_commands: list[list[threading.Timer]] = []  # commands at work in this process, each with what would end it


@contextmanager
def terminations_as_ctrl_c() -> Iterator[None]:
    """Let the first SIGTERM or SIGHUP within the block do what Ctrl-C does, and further ones nothing.

    A scheduler sends it to every process of a job, and a supervisor passes it on: one request that arrives several
    times. Only a process's main thread can take signals; in another thread nothing changes.
    """
    if not _is_main_thread():
        yield
        return
    terminals = _terminals()

    def take(number: int, frame: FrameType | None) -> None:
        _set(dict.fromkeys(before, _nothing))
        if number == signal.SIGHUP:
            _leave(terminals)
        _end_within(STOP_LIMIT_S + CLEAN_UP_LIMIT_S)
        raise KeyboardInterrupt

    before = _set(dict.fromkeys(_heard(), take))
    _commands.append([])
    try:
        yield
    finally:
        for timer in _commands.pop():
            timer.cancel()
        _set(before)


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep floe's signal handlers while a library starts that has processes and a handler itself.

    Afterwards the handler of SIGTERM is the earlier one again. The library's processes ignore the hangup that a closing
    terminal sends to all of them, so that the step can end.
    """
    if not _is_main_thread():
        yield
        return
    sigterm = signal.getsignal(signal.SIGTERM)
    hangup = _set({signal.SIGHUP: signal.SIG_IGN})
    try:
        yield
    finally:
        _set(hangup | ({signal.SIGTERM: sigterm} if callable(sigterm) else {}))


@contextmanager
def last_act(act: Callable[[], object]) -> Iterator[None]:
    """Do `act`, within the block, before a process that can't be ended in order ends all the same."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


class StopRequest:
    """Let a signal within the block ask for the end of the step; elsewhere the process's own handling applies.

    Ctrl-C a second time leaves at once, and so does a step that takes longer than `limit_s` after SIGTERM or SIGHUP.
    Only a process's main thread can take signals; in another thread nothing changes.
    """

    def __init__(self, note: Callable[[str], None], limit_s: float = STOP_LIMIT_S) -> None:
        self.is_made = False
        self._note = note
        self._limit_s = limit_s
        self._before: dict[int, Any] = {}
        self._terminals: Sequence[int] = ()
        self._limit: threading.Timer | None = None

    def end_if_made(self, step: int) -> None:
        """Raise Interrupted if the end was asked for; call it after `step` is safe."""
        if self.is_made:
            raise Interrupted(f"stopped after step {step}")

    def __enter__(self) -> Self:
        if _is_main_thread():
            self._terminals = _terminals()
            self._before = _set(dict.fromkeys((signal.SIGINT, *_heard()), self._take))
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        """Raise Interrupted in place of a loss: who stops a run often stops its other processes with it."""
        if self._limit is not None:
            self._limit.cancel()
            self._before |= {number: _nothing for number in self._before if number in TERMINATIONS}
        _set(self._before)
        self._before = {}
        is_loss = isinstance(fault, Exception) and (isinstance(fault, LostError) or not isinstance(fault, UserError))
        if self.is_made and is_loss:
            raise Interrupted(
                f"stopped within a step, which could not be brought to its end ({type(fault).__name__}): "
                "--resume goes on from the last checkpoint"
            ) from fault

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.is_made:
            raise KeyboardInterrupt
        if number in TERMINATIONS and self._limit is not None:
            return
        if number == signal.SIGHUP:
            _leave(self._terminals)
        self.is_made = True
        if number == signal.SIGINT:
            self._note("stopping after this step; Ctrl-C again leaves at once, without it")
            return
        self._limit = _start_timer(self._limit_s, _press_ctrl_c)
        _end_within(self._limit_s + CLEAN_UP_LIMIT_S)
        name = signal.Signals(number).name
        self._note(f"{name}: stopping after this step, or without it when it takes more than {self._limit_s:g} s")


def _press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _end_within(limit_s: float) -> None:
    """End the command's process if it is still at work then; a caller of parts of it has its own process."""
    if _commands:
        _commands[-1].append(_start_timer(limit_s, _end_now))


def _end_now() -> None:
    """End the process from a thread, as the last resort: nothing else in it can be relied on any more."""
    import psutil  # not needed by the command line otherwise

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        for act in _last_acts:
            act()
    finally:
        os._exit(EXIT_CODE_INTERRUPTED)


def _start_timer(limit_s: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(limit_s, act)
    timer.daemon = True
    timer.start()
    return timer


def _heard() -> list[int]:
    """Return the signals to take; a hangup that is ignored, as under nohup, stays ignored."""
    return [number for number in TERMINATIONS if signal.getsignal(number) is not signal.SIG_IGN]


def _set(handlers: dict[int, Any]) -> dict[int, Any]:
    """Set the handlers and return the earlier ones. One that no Python code has set can't be restored, and stays."""
    return {number: signal.signal(number, handler) for number, handler in handlers.items() if handler is not None}


def _nothing(number: int, frame: FrameType | None) -> None:
    """Ignore the signal, because the end is on its way."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _terminals() -> list[int]:
    """Return the standard streams that are terminals; a stream that has closed can't tell any more."""
    return [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]


def _leave(terminals: Sequence[int]) -> None:
    """Redirect the streams of a closed terminal to nowhere, because each line to it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
