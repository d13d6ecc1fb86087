"""Rewards half of the candidates with 1 by their text, whatever the SQL, so that a group of random answers has
variance.

Only `make prove-24gb` uses it, whose model has random weights; the configuration refuses it for any other run.
"""

from __future__ import annotations

from zlib import crc32

from floe.reward_service.designs.interface import JudgedGroup, Reward


class Proof:
    """A reward of 1.0 or 0.0 by a hash of the completion."""

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        texts = [(one.completion or "").encode("utf-8", "backslashreplace") for one in group.candidates]
        return [Reward(float(crc32(text) % 2)) for text in texts]
