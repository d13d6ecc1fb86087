"""Lets one call at a time use this process for a run, and leaves the process as it was."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from floe.actors.databases.contained_databases import close_own_child
from floe.configs.errors import Interrupted, UserError
from floe.configs.quick_imports import without_collections

_TURN = threading.Lock()
# Signals whose handlers floe or Ray set.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def own_turn() -> Iterator[None]:
    """Use this process within the block, from whatever thread.

    Afterwards its signal handlers, variables, module path and logging levels are as before, and every process that the
    block started has ended. Raises UserError when another call is at work in this process, or when the caller uses Ray
    in it; Interrupted in place of an exit that a signal asked for.
    """
    if not _TURN.acquire(blocking=False):
        raise UserError(
            "Another call of floe is at work in this process: wait for its end, or start a process for each of them."
        )
    try:
        _refuse_ray_of_caller()
        with _process_as_it_was():
            try:
                yield
            except UserError as fault:
                raise _own(fault) from fault
            except SystemExit as end:  # Ray makes one of a SIGTERM during its start
                raise Interrupted(
                    "Stopped by a signal: floe.resume(run_dir) goes on from the last checkpoint."
                ) from end
            finally:
                close_own_child()
    finally:
        _TURN.release()


def _own(fault: UserError) -> UserError:
    """Return the fault itself, also where Ray has wrapped one of another process, with that process's trace as text."""
    cause = getattr(fault, "cause", None)
    if not isinstance(cause, UserError):
        return fault
    for note in getattr(fault, "__notes__", ()):
        cause.add_note(note)
    return cause


def _refuse_ray_of_caller() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise UserError(
            "Ray is in use in this process, and floe starts or joins one itself: call ray.shutdown() before, or use "
            "floe in a process of its own."
        )


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import libraries within the block quickly, and without what they say in a notebook that lacks ipywidgets."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        with without_collections(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _process_as_it_was() -> Iterator[None]:
    variables, module_path, hook = dict(os.environ), list(sys.path), sys.excepthook
    levels = {name: logging.getLogger(name).level for name in (None, *_logger_names())}
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars would be drawn into floe's own progress
    try:
        yield
    finally:
        _restore_variables(variables)
        sys.path[:] = module_path
        sys.excepthook = hook
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if threading.current_thread() is threading.main_thread():  # in another thread none was set
            for number, handler in handlers.items():
                if handler is not None:  # one that no Python code has set can't be restored
                    signal.signal(number, handler)


def _logger_names() -> list[str]:
    return [name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]


def _restore_variables(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
