"""Shares score requests out among threads, each with its own scorer and executor child."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from floe.cluster.messages import Score, ScoreRequest
from floe.configs.sections.input_sections import PromptSection
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer import Scorer

_POOLS: weakref.WeakSet[ScorerPool] = weakref.WeakSet()


class PoolClosed(Exception):
    """The pool was closed before or while it was asked."""


class ScorerPool:
    """A `map` over score requests on `reward.num_workers` threads; several threads may call it at once.

    Nothing starts before the first request. A process that is forked off starts children of its own, and leaves its
    parent's alone. At the end of the process the children end, whether or not the pool was closed.
    """

    def __init__(
        self,
        databases_dir: Path,
        settings: RewardSection,
        plugin_folder: Path | None = None,
        prompt: PromptSection | None = None,
    ) -> None:
        """Take what each `Scorer` is made with."""
        self._make_scorer = partial(Scorer, databases_dir, settings, plugin_folder=plugin_folder, prompt=prompt)
        self._num_threads = settings.num_workers
        self.is_closed = False
        self._start_afresh()
        _POOLS.add(self)

    def score_all(self, requests: Iterable[ScoreRequest]) -> Iterator[tuple[Score, ...]]:
        """Return the scores of each request, in order. Raises UserError for a design that can't be made, PoolClosed."""
        with self._lock:
            if self.is_closed:
                raise PoolClosed
            return self._workers.map(requests)

    def abandon(self) -> None:
        """End the running work: its candidates become infrastructure. Later requests start anew."""
        self._workers.abandon()

    def close(self) -> None:
        """End the work, the threads and the children; a second call does nothing."""
        with self._lock:
            self.is_closed = True
        self._end()

    def leave_to_parent(self) -> None:
        """Forget, in a process that was forked off, threads that it doesn't have and children that are not its own.

        Closing their sockets would end the parent's children.
        """
        self._end.detach()
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it at the fork
        self._workers = _Workers(self._make_scorer, self._num_threads)
        self._end = weakref.finalize(self, self._workers.end)  # also called at the exit


class _Workers:
    """Threads, and the scorer of each."""

    def __init__(self, make_scorer: Callable[[], Scorer], num_threads: int) -> None:
        self._make_scorer = make_scorer
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="scorer")
        self._own = threading.local()
        self._scorers: list[Scorer] = []

    def map(self, requests: Iterable[ScoreRequest]) -> Iterator[tuple[Score, ...]]:
        return self._threads.map(self._score, requests)

    def abandon(self) -> None:
        for scorer in list(self._scorers):
            scorer.abandon()

    def end(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.abandon()
        self._threads.shutdown()
        for scorer in self._scorers:
            scorer.close()

    def _score(self, request: ScoreRequest) -> tuple[Score, ...]:
        if not hasattr(self._own, "scorer"):
            self._own.scorer = self._make_scorer()
            self._scorers.append(self._own.scorer)
        scores: tuple[Score, ...] = self._own.scorer.score(request)
        return scores


def _leave_children_to_parent() -> None:
    for pool in list(_POOLS):
        pool.leave_to_parent()


os.register_at_fork(after_in_child=_leave_children_to_parent)
