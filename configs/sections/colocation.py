"""The ways in which rollout engine and learner share a GPU; light to import."""

from __future__ import annotations

from enum import StrEnum


class Colocation(StrEnum):
    """The ways, from the fastest to the one that needs the least memory."""

    RESIDENT = "resident"  # both keep all they have on the device
    ENGINE_SLEEPS = "engine_sleeps"  # while the learner works: weights on the host, KV cache given up (level 1)
    LEARNER_OFFLOADS = "learner_offloads"  # and the learner's base weights are on the host while the engine works


TAKE_TURNS = (Colocation.ENGINE_SLEEPS, Colocation.LEARNER_OFFLOADS)  # engine and learner never work at the same time
