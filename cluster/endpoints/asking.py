"""Asks an endpoint for many answers at a time, and keeps each as it comes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from floe.cluster.endpoints.client import EndpointClient, Refused, Unanswered
from floe.cluster.endpoints.kept_answers import KeptAnswers
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.endpoints.protocol import Ask, Reply
from floe.cluster.evaluation.saved_evaluation import EndpointUse
from floe.configs.errors import UserError

MAX_REFUSED_FIRST = 3  # requests that may be refused before one is answered
MAX_FAILED_IN_A_ROW = 10
MIN_FAILED = 3  # fewer never end an evaluation
SAID = {
    "temperature": "It takes no temperature: every answer is sampled at its own, the one that counts as greedy too.",
    "seed": "It takes no seed: the same samples don't come again.",
}

T = TypeVar("T")


@dataclass(slots=True)
class Asking:
    """Answers by key, and why those that are missing could not be got."""

    replies: dict[str, Reply] = field(default_factory=dict)
    kept_keys: set[str] = field(default_factory=set)  # of answers known from before
    failures: dict[str, str] = field(default_factory=dict)  # by key

    def use(self, endpoint: EndpointPolicy) -> EndpointUse:
        """Return what the answers took; one that several requests share counts once."""
        paid = [reply for key, reply in self.replies.items() if key not in self.kept_keys]
        everything = list(self.replies.values())
        without = {name for one in everything for name in one.without}
        tokens, paid_tokens = _tokens(everything), _tokens(paid)
        return EndpointUse(
            num_answers=len(everything),
            num_kept=len(self.kept_keys),
            num_without_counts=sum(None in (one.prompt_tokens, one.completion_tokens) for one in everything),
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            paid_prompt_tokens=paid_tokens[0],
            paid_completion_tokens=paid_tokens[1],
            cost=_cost(endpoint, *tokens),
            paid=_cost(endpoint, *paid_tokens),
            notes=tuple(sentence for name, sentence in SAID.items() if name in without),
        )


def ask_all(
    endpoint: EndpointPolicy,
    key: str,
    asks: Sequence[Ask],
    kept: KeptAnswers,
    max_failed_share: float,
    note_answers: Callable[[int, int], object],
) -> Asking:
    """Return the answers; those that are kept are not asked for. Equal requests are sent once.

    Requests go one at a time until one is answered. Raises UserError for an endpoint that can't be used, and when more
    than `max_failed_share` of the answers, or `MAX_FAILED_IN_A_ROW`, could not be got.
    """
    by_key = {ask.key(endpoint.url, endpoint.model): ask for ask in asks}
    asking = Asking()
    for name in by_key:
        if (known := kept.get(name)) is not None:
            asking.replies[name] = known
            asking.kept_keys.add(name)
    missing = {name: ask for name, ask in by_key.items() if name not in asking.replies}
    if missing:
        crew = _Crew(endpoint, asking, kept, max_failed_share, len(by_key), note_answers)
        _finished(crew.work(key, missing))
    return asking


@dataclass(slots=True)
class _Crew:
    """The tasks that share the requests out among them."""

    endpoint: EndpointPolicy
    asking: Asking
    kept: KeptAnswers
    max_failed_share: float
    num_all: int
    note_answers: Callable[[int, int], object]
    num_failed_in_a_row: int = 0

    async def work(self, key: str, missing: dict[str, Ask]) -> None:
        client = EndpointClient(self.endpoint, key, has_answered=bool(self.asking.kept_keys))
        waiting = deque(missing.items())
        try:
            while waiting and not client.has_answered:
                await self._ask(client, *waiting.popleft())
                if self.asking.failures and not client.has_answered:
                    self._raise_when_nothing_comes()
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.endpoint.num_parallel, len(waiting))):
                    group.create_task(self._take_turns(client, waiting))
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None  # the others say the same of further requests
        finally:
            await client.close()

    async def _take_turns(self, client: EndpointClient, waiting: deque[tuple[str, Ask]]) -> None:
        while waiting:
            await self._ask(client, *waiting.popleft())
            self._raise_when_too_many_fail()

    async def _ask(self, client: EndpointClient, name: str, ask: Ask) -> None:
        try:
            reply = await client.answer(ask)
        except Unanswered as error:
            self.asking.failures[name] = str(error)
            # A refused request says nothing about the endpoint's health.
            self.num_failed_in_a_row += not isinstance(error, Refused)
            return
        self.num_failed_in_a_row = 0
        self.kept.put(name, ask, reply)
        self.asking.replies[name] = reply
        self.note_answers(len(self.asking.replies), self.num_all)

    def _raise_when_nothing_comes(self) -> None:
        last = list(self.asking.failures.values())[-1]
        if self.num_failed_in_a_row or len(self.asking.failures) >= min(MAX_REFUSED_FIRST, self.num_all):
            raise UserError(f"{last.rstrip('.')}: correct --endpoint, --model or --endpoint-api, or start the server.")

    def _raise_when_too_many_fail(self) -> None:
        num_failed = len(self.asking.failures)
        is_many = num_failed > max(MIN_FAILED, self.max_failed_share * self.num_all)
        if is_many or self.num_failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            last = list(self.asking.failures.values())[-1]
            raise UserError(
                f"{num_failed} of {self.num_all} answers could not be got, the last because {last.rstrip('.')}: give "
                f"the same command again when it works; the {len(self.asking.replies)} answers so far are kept in "
                f"{self.kept.path}."
            )


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Return a coroutine's result from a thread of its own, because a notebook's thread has a running event loop."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            loop.run_until_complete(asyncio.wait([task]))
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="endpoint", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        with suppress(RuntimeError):  # the loop has just ended
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    return task.result()


def _tokens(replies: Iterable[Reply]) -> tuple[int, int]:
    counted = [(one.prompt_tokens or 0, one.completion_tokens or 0) for one in replies]
    return sum(prompt for prompt, _ in counted), sum(completion for _, completion in counted)


def _cost(endpoint: EndpointPolicy, prompt_tokens: int, completion_tokens: int) -> float | None:
    if endpoint.price_in is None or endpoint.price_out is None:
        return None
    return (prompt_tokens * endpoint.price_in + completion_tokens * endpoint.price_out) / 1e6
