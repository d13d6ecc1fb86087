"""Divides accepted questions among the splits so that a held-back one was never seen with its tables and columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, zip_longest
from random import Random
from typing import TypeVar

from floe.actors.demo.checks import accepts
from floe.actors.demo.databases import DATABASES
from floe.actors.demo.filling import Draft, Entity, entities, make_draft
from floe.actors.demo.schemas import Rows
from floe.actors.demo.shapes import Difficulty, Template
from floe.actors.demo.templates import TEMPLATES

MAX_ENTITIES = 24
MIN_ENTITIES_TO_HOLD_OUT = 5
GOLDS_PER_ENTITY = 2
PHRASINGS_PER_GOLD = 2
ATTEMPTS_PER_ENTITY = 8

T = TypeVar("T")
_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")


class Split(StrEnum):
    TRAIN = "train"
    TUNE = "tune"
    TEST = "test"


@dataclass(frozen=True)
class Quota:
    """Number of questions of one difficulty that every split gets."""

    difficulty: Difficulty
    train: int
    tune: int
    test: int

    def of(self, split: Split) -> int:
        return {Split.TRAIN: self.train, Split.TUNE: self.tune, Split.TEST: self.test}[split]


QUOTAS = (
    Quota(Difficulty.EASY, train=600, tune=75, test=125),
    Quota(Difficulty.MEDIUM, train=420, tune=52, test=88),
    Quota(Difficulty.HARD, train=180, tune=23, test=37),
)


@dataclass(frozen=True)
class Pair:
    """A question and its gold."""

    template: str
    difficulty: Difficulty
    db_id: str
    entity: str
    question: str
    query: str


@dataclass(frozen=True)
class World:
    """The databases that drafts are filled from and tried on."""

    rows: dict[str, Rows]
    connections: dict[str, sqlite3.Connection]


class Collector:
    """Accepts drafts, but never a SQL text or a question of a database twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: set[tuple[str, str]] = set()

    def golds(self, template: Template, rng: Random) -> list[list[Draft]]:
        """Return accepted drafts per entity, the entities taken from every database in turn."""
        found = []
        per_database = []
        for database in DATABASES:
            every = list(entities(template, database))
            rng.shuffle(every)
            per_database.append(every)
        for entity in _in_turn(per_database):
            accepted = self._of_entity(template, entity, rng)
            if accepted:
                found.append(accepted)
            if len(found) == MAX_ENTITIES:
                break
        return found

    def _of_entity(self, template: Template, entity: Entity, rng: Random) -> list[Draft]:
        db_id = entity.database.db_id
        accepted: list[Draft] = []
        for _ in range(ATTEMPTS_PER_ENTITY):
            draft = make_draft(template, entity, self._world.rows[db_id], rng)
            texts = {(db_id, text) for text in (draft.query, *draft.phrasings)}
            if texts & self._seen or not accepts(self._world.connections[db_id], draft):
                continue
            self._seen |= texts
            accepted.append(draft)
            if len(accepted) == GOLDS_PER_ENTITY:
                break
        return accepted


def deal(world: World, seed: int) -> dict[Split, list[Pair]]:
    """Return the questions of every split, shuffled."""
    collector = Collector(world)
    piles: dict[tuple[Split, Difficulty], list[list[Pair]]] = {}
    for template in TEMPLATES:
        rng = Random(f"{seed}/{template.name}")
        golds = collector.golds(template, rng)
        rng.shuffle(golds)
        for split, part in _partition(golds).items():
            piles.setdefault((split, template.shape.difficulty), []).append(_pairs(split, part, rng))
    dealt: dict[Split, list[Pair]] = {}
    for split in Split:
        # Two templates may differ in a literal only, such as LIMIT 1 and LIMIT 3.
        trained = {_outline(pair) for pair in dealt.get(Split.TRAIN, [])}
        chosen = []
        for quota in QUOTAS:
            taken = _in_turn(piles[(split, quota.difficulty)])
            chosen += list(islice((pair for pair in taken if _outline(pair) not in trained), quota.of(split)))
        Random(f"{seed}/{split}").shuffle(chosen)
        dealt[split] = chosen
    return dealt


def _outline(pair: Pair) -> tuple[str, str]:
    return pair.db_id, without_literals(pair.query)


def without_literals(query: str) -> str:
    """Return the query with a `?` for every literal."""
    return _LITERAL.sub("?", query)


def _partition(golds: list[list[Draft]]) -> dict[Split, list[list[Draft]]]:
    """Put a quarter of the entities into test, a seventh into tune, the others into train."""
    if len(golds) < MIN_ENTITIES_TO_HOLD_OUT:
        return {Split.TRAIN: golds}
    num_test, num_tune = round(len(golds) / 4), max(1, round(len(golds) / 7))
    return {
        Split.TEST: golds[:num_test],
        Split.TUNE: golds[num_test : num_test + num_tune],
        Split.TRAIN: golds[num_test + num_tune :],
    }


def _pairs(split: Split, golds: list[list[Draft]], rng: Random) -> list[Pair]:
    """Return pairs in the order to take them: a new entity first, then a second wording, then a second gold."""
    if split is not Split.TRAIN:
        return [_pair(drafts[0], rng.choice(drafts[0].phrasings)) for drafts in golds]
    pairs = []
    for number in range(GOLDS_PER_ENTITY):
        drafts = [of_entity[number] for of_entity in golds if number < len(of_entity)]
        wordings = [rng.sample(draft.phrasings, min(PHRASINGS_PER_GOLD, len(draft.phrasings))) for draft in drafts]
        for turn in range(PHRASINGS_PER_GOLD):
            pairs += [
                _pair(draft, words[turn]) for draft, words in zip(drafts, wordings, strict=True) if turn < len(words)
            ]
    return pairs


def _pair(draft: Draft, question: str) -> Pair:
    return Pair(draft.template, draft.difficulty, draft.db_id, draft.entity, question, draft.query)


def _in_turn(lists: Iterable[list[T]]) -> Iterator[T]:
    """Return the first of every list, then the second of every list, and so on."""
    for turn in zip_longest(*lists):
        yield from (item for item in turn if item is not None)
