"""Cases of the learner bench: groups of random tokens, and how often each is measured (pure)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PACK_TOKENS = 4096  # of both of this learner's ways
MIN_ROUNDS, MAX_ROUNDS = 2, 5
# Unshared tokens of a case's rounds together; the limit keeps the bench at a quarter of an hour on two cores.
ROUND_TOKENS = 14_000
GROUP_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One group of completions of a prompt, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    group_size: int

    @property
    def shape(self) -> str:
        return f"{self.prompt_tokens}/{self.completion_tokens}"

    @property
    def name(self) -> str:
        """The shape, with the group's size where it is not that of `SHAPES`."""
        return self.shape if self.group_size == GROUP_SIZE else f"{self.shape} x {self.group_size}"

    @property
    def num_trained(self) -> int:
        return self.group_size * self.completion_tokens

    @property
    def num_unshared(self) -> int:
        return self.group_size * (self.prompt_tokens + self.completion_tokens)

    @property
    def num_rounds(self) -> int:
        return min(max(ROUND_TOKENS // self.num_unshared, MIN_ROUNDS), MAX_ROUNDS)


SHAPES = tuple(
    Case(prompt_tokens=prompt, completion_tokens=completion, group_size=GROUP_SIZE)
    for prompt, completion in ((150, 24), (600, 60), (1500, 100))
)
SWEEP = tuple(Case(prompt_tokens=150, completion_tokens=24, group_size=size) for size in (1, 2, 4, 8, 16, 32, 64))


def cases() -> Iterator[Case]:
    """Return every case once: a shape that is also part of the sweep is measured for both."""
    yield from dict.fromkeys((*SHAPES, *SWEEP))


@dataclass(frozen=True, slots=True)
class TokenGroup:
    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    advantages: tuple[float, ...]  # of each completion


def random_group(case: Case, vocabulary: int, seed: int) -> TokenGroup:
    source = random.Random(f"{seed}/{case}")

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(vocabulary) for _ in range(count))

    return TokenGroup(
        prompt=tokens(case.prompt_tokens),
        completions=tuple(tokens(case.completion_tokens) for _ in range(case.group_size)),
        # Alternating, but of one sign: otherwise the losses that the ways must agree on would be small by cancellation.
        advantages=tuple(0.5 if number % 2 else 1.0 for number in range(case.group_size)),
    )
