"""Kills a run's processes, of kinds and at times that a seed fixes."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping

import psutil

MAX_NAME_CHARS = 15  # bytes that the system keeps of a process's name
EXECUTOR_PROGRAM = "executor_child"


def _titled(title: str) -> Callable[[psutil.Process], bool]:
    return lambda process: process.name().startswith(f"ray::{title}"[:MAX_NAME_CHARS])


def _is_executor_child(process: psutil.Process) -> bool:
    """Return whether the process was forked by the executor's server, which runs the same program."""
    parent = process.parent()
    return EXECUTOR_PROGRAM in _command(process) and parent is not None and EXECUTOR_PROGRAM in _command(parent)


def _is_driver(process: psutil.Process) -> bool:
    return " train " in f"{_command(process)} " and "floe.cluster.cli" in _command(process)


KINDS: Mapping[str, Callable[[psutil.Process], bool]] = {
    "executor child": _is_executor_child,
    "reward worker": _titled("Scorer"),
    "rollout actor": _titled("RolloutActor"),
    "learner": _titled("LearnerActor"),
    "driver": _is_driver,
}


COSTLY = frozenset({"rollout actor", "learner", "driver"})  # kinds whose end costs the start of an engine


class Killer:
    """Thread that kills one process every so many seconds until it is stopped.

    A costly kind is killed again only after a further step, because otherwise the run would start for ever.
    """

    def __init__(self, root_pid: int, seed: int, wait_s: tuple[float, float], num_steps: Callable[[], int]) -> None:
        """Kill descendants of `root_pid`, from the first step on. `wait_s` are the shortest and longest waits."""
        self.num_killed: Counter[str] = Counter()
        self._root = psutil.Process(root_pid)
        self._rng = random.Random(seed)
        self._wait_s = wait_s
        self._num_steps = num_steps
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        num_steps_before = 0
        while not self._stopped.wait(self._rng.uniform(*self._wait_s)):
            num_steps = self._num_steps()
            if num_steps == 0:
                continue
            kind = self._rng.choice([one for one in KINDS if one not in COSTLY or num_steps > num_steps_before])
            if kill_one(self._root, kind, self._rng):
                self.num_killed[kind] += 1
                num_steps_before = num_steps if kind in COSTLY else num_steps_before


def kill_one(root: psutil.Process, kind: str, rng: random.Random) -> bool:
    """Kill one process of the kind among the descendants of `root`; return whether there was one."""
    try:
        found = [process for process in root.children(recursive=True) if _is_of(kind, process)]
        if found:
            rng.choice(sorted(found, key=lambda process: process.pid)).kill()
    except psutil.NoSuchProcess:
        return False
    return bool(found)


def _is_of(kind: str, process: psutil.Process) -> bool:
    try:
        return KINDS[kind](process)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
