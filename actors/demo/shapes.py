"""Defines question shapes: format strings for SQL and phrasings, over typed slots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from floe.actors.demo.conditions import Form
from floe.actors.demo.schemas import Kind


class Difficulty(StrEnum):
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


class Scope(StrEnum):
    """The tables that a shape is about: one, or several joined ones."""

    TABLE = "table"
    LINK = "link"
    FORK = "fork"
    CHAIN = "chain"


@dataclass(frozen=True)
class Pick:
    """A column slot: `role` names its table."""

    key: str
    role: str
    kinds: frozenset[Kind]
    nullable: bool = True


@dataclass(frozen=True)
class Filter:
    """A condition slot: with `prefixed`, its clause also names the table, as in `whose artist country is Ghana`."""

    key: str
    role: str
    forms: tuple[Form, ...]
    prefixed: bool = False


@dataclass(frozen=True)
class Shape:
    """A family of questions: format strings over named slots.

    A decoy is a simpler query that must not give the gold's result; a probe lists the values that an `ORDER BY ...
    LIMIT` sorts by, which must not tie. With `plain_roles`, links are left out whose parent has a role of its own, such
    as the home team.
    """

    name: str
    difficulty: Difficulty
    scope: Scope
    sql: str
    phrasings: tuple[str, ...]
    picks: tuple[Pick, ...] = ()
    filters: tuple[Filter, ...] = ()
    decoys: tuple[str, ...] = ()
    probe: str | None = None
    limits: tuple[int, ...] = (1,)
    plain_roles: bool = False

    def templates(self) -> Iterator[Template]:
        """Return one template per combination of the filters' forms."""
        for forms in product(*(slot.forms for slot in self.filters)):
            yield Template(".".join((self.name, *forms)), self, forms)


@dataclass(frozen=True)
class Template:
    """A shape with the form of every filter settled."""

    name: str
    shape: Shape
    forms: tuple[Form, ...]
