"""Actors that stand for engines that die; light to import, because every successor's process imports this."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from cluster.messages import GroupRequest, RolloutGroup


class Mortal:
    """Ends its process when it is asked for one group more than it has in it."""

    def __init__(self, groups_per_life: int) -> None:
        self._num_left = groups_per_life

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        for one in requests:
            if self._num_left == 0:
                time.sleep(0.2)  # for the group before to be on its way
                os._exit(1)
            self._num_left -= 1
            yield RolloutGroup(
                question=one.question,
                prompt_token_ids=one.prompt_token_ids,
                temperature=one.temperature,
                seed=one.seed,
                completions=(),
            )


class Faulty(Mortal):
    """Its engine raises; the process lives on."""

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        raise MemoryError("no room for the KV cache")
        yield
