"""The processes of this Ray session's actors, whoever is their parent: preloaded ones are no children of Ray's."""

from __future__ import annotations

from contextlib import suppress

import psutil
from ray._private import state


def actor_processes(class_name: str) -> list[psutil.Process]:
    """Return those that are there of the actors of a class, also of actors that Ray calls dead."""
    found: list[psutil.Process] = []
    for actor in state.actors().values():
        if actor["Pid"] and actor["ActorClassName"].rpartition(".")[2] == class_name:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(actor["Pid"])
                is_there = process.name().startswith("ray::") and process.status() != psutil.STATUS_ZOMBIE
                found += [process] if is_there else []
    return found
