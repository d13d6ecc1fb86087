"""Processes of actors and drivers, whoever is their parent: the parent of preloaded ones is their server."""

from __future__ import annotations

from contextlib import suppress

import psutil
from ray._private import state

STANDS_FOR = "for-"  # begins the name of a client of tests/preloaded, before the number of its process


def descendants(root: psutil.Process) -> list[psutil.Process]:
    """Return all processes below, and those that a client below stands for with what is below them."""
    found: list[psutil.Process] = []
    for one in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(one)
            found += _represented(one)
    return found


def _represented(client: psutil.Process) -> list[psutil.Process]:
    name = client.name()
    if not name.startswith(STANDS_FOR):
        return []
    process = psutil.Process(int(name.removeprefix(STANDS_FOR)))
    return [process, *descendants(process)]


class Root:
    """The interface to a driver's process that `kill_one` needs; the process may be preloaded."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def children(self, recursive: bool) -> list[psutil.Process]:
        assert recursive
        return [*_represented(self._process), *descendants(self._process)]


def actor_processes(class_name: str) -> list[psutil.Process]:
    """Return the existing processes of the actors of a class, also of actors that Ray calls dead."""
    found: list[psutil.Process] = []
    for actor in state.actors().values():
        if actor["Pid"] and actor["ActorClassName"].rpartition(".")[2] == class_name:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(actor["Pid"])
                is_there = process.name().startswith("ray::") and process.status() != psutil.STATUS_ZOMBIE
                found += [process] if is_there else []
    return found
