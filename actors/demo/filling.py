"""Fills a template with the tables, columns and values of a database into a draft."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random

from floe.actors.demo.conditions import Condition, Form, fits, make_condition
from floe.actors.demo.schemas import Column, Database, Kind, Link, Rows, Table, Value
from floe.actors.demo.shapes import Difficulty, Pick, Scope, Template
from floe.actors.demo.words import RELATIONS, Option, column_words, directions, filter_words, functions, table_words


@dataclass(frozen=True)
class Place:
    """The tables of one filling: every role with its table and what the question calls its rows."""

    tables: dict[str, Table]
    called: dict[str, str]
    links: tuple[Link, ...] = ()

    @property
    def label(self) -> str:
        if not self.links:
            return next(iter(self.tables.values())).name
        return ">".join((self.links[0].child, *(f"{link.key}:{link.parent}" for link in self.links)))


@dataclass(frozen=True)
class FilledSlot:
    """A slot's key, the role of its table, and the column put there."""

    key: str
    role: str
    column: Column


@dataclass(frozen=True)
class Entity:
    """A place with the columns of every slot; a split holds it out as a whole."""

    database: Database
    place: Place
    slots: tuple[FilledSlot, ...]

    @property
    def label(self) -> str:
        names = ",".join(f"{self.place.tables[slot.role].name}.{slot.column.name}" for slot in self.slots)
        return f"{self.database.db_id}:{self.place.label}({names})"


@dataclass(frozen=True)
class Draft:
    """A filled template, not yet run."""

    template: str
    difficulty: Difficulty
    db_id: str
    entity: str
    query: str
    phrasings: tuple[str, ...]
    decoys: tuple[str, ...]
    probe: str | None


@dataclass(frozen=True)
class _Literals:
    """The part of a draft's SQL that its entity does not fix; its phrasings differ only in words."""

    limit: int
    function: Option
    direction: Option
    relation: Option
    conditions: dict[str, Condition]


def entities(template: Template, database: Database) -> Iterator[Entity]:
    """Return every way to fill the template's table and column slots from the database."""
    shape = template.shape
    for place in _places(shape.scope, database):
        if shape.plain_roles and any(link.role != database.table(link.parent).one for link in place.links):
            continue
        options = []
        for pick in shape.picks:
            columns = place.tables[pick.role].columns
            options.append([FilledSlot(pick.key, pick.role, column) for column in columns if _picks(pick, column)])
        for asked, form in zip(shape.filters, template.forms, strict=True):
            columns = place.tables[asked.role].columns
            options.append([FilledSlot(asked.key, asked.role, column) for column in columns if fits(form, column)])
        for slots in product(*options):
            if _sensible(slots, place):
                yield Entity(database, place, slots)


def make_draft(template: Template, entity: Entity, rows: Rows, rng: Random) -> Draft:
    """Fill the template with random literals and random words."""
    shape = template.shape
    literals = _literals(template, entity, rows, rng)
    words = _words(template, entity, literals, rng)
    phrasings = (phrasing.format(**_words(template, entity, literals, rng)) for phrasing in shape.phrasings)
    return Draft(
        template.name,
        shape.difficulty,
        entity.database.db_id,
        entity.label,
        shape.sql.format(**words),
        tuple(dict.fromkeys(phrasings)),
        tuple(decoy.format(**words) for decoy in shape.decoys),
        shape.probe.format(**words) if shape.probe else None,
    )


def _literals(template: Template, entity: Entity, rows: Rows, rng: Random) -> _Literals:
    forms: dict[str, Form] = {
        asked.key: form for asked, form in zip(template.shape.filters, template.forms, strict=True)
    }
    conditions = {}
    for slot in entity.slots:
        if slot.key in forms:
            stored = _stored(entity.place.tables[slot.role], slot.column, rows)
            conditions[slot.key] = make_condition(forms[slot.key], slot.column, stored, rng)
    measured = next((slot.column for slot in entity.slots if slot.key == "n"), None)
    return _Literals(
        rng.choice(template.shape.limits),
        rng.choice(functions(measured)),
        rng.choice(directions(measured)),
        rng.choice(RELATIONS),
        conditions,
    )


def _words(template: Template, entity: Entity, literals: _Literals, rng: Random) -> dict[str, object]:
    """Return the values of the format strings' names, with one word chosen wherever several fit."""
    place = entity.place
    qualified = template.shape.scope is not Scope.TABLE
    prefixed = {asked.key for asked in template.shape.filters if asked.prefixed}
    words: dict[str, object] = {role: table_words(table, place.called[role]) for role, table in place.tables.items()}
    words["k"] = literals.limit
    words["fn"] = literals.function.speak(rng)
    words["dir"] = literals.direction.speak(rng)
    words["rel"] = literals.relation.speak(rng)
    if place.links:
        words["join"] = " ".join((place.links[0].child, *(link.join_sql for link in place.links)))
        words["key"] = place.links[0].key
    for slot in entity.slots:
        bare = slot.column.name
        sql = f"{place.tables[slot.role].name}.{bare}" if qualified else bare
        noun = rng.choice(slot.column.nouns)
        if slot.key in prefixed:
            noun = f"{place.called[slot.role]} {noun}"
        condition = literals.conditions.get(slot.key)
        words[slot.key] = filter_words(condition, sql, bare, noun, rng) if condition else column_words(sql, bare, noun)
    return words


def _places(scope: Scope, database: Database) -> Iterator[Place]:
    if scope is Scope.TABLE:
        for table in database.tables:
            yield Place({"t": table}, {"t": table.one})
    elif scope is Scope.LINK:
        for link in database.links:
            child, parent = database.table(link.child), database.table(link.parent)
            yield Place({"child": child, "parent": parent}, {"child": child.one, "parent": link.role}, (link,))
    else:
        for first, second in database.forks if scope is Scope.FORK else database.chains:
            child, near, far = (database.table(name) for name in (first.child, first.parent, second.parent))
            far_role = second.role if scope is Scope.FORK else f"{first.role} {second.role}"
            called = {"child": child.one, "near": first.role, "far": far_role}
            yield Place({"child": child, "near": near, "far": far}, called, (first, second))


def _picks(pick: Pick, column: Column) -> bool:
    return column.kind in pick.kinds and (pick.nullable or not column.nullable)


def _sensible(slots: tuple[FilledSlot, ...], place: Place) -> bool:
    """Return whether columns are distinct, ids stand only where no name is, and two listed columns keep their order."""
    columns = [(slot.role, slot.column.name) for slot in slots]
    if len(set(columns)) < len(columns):
        return False
    if any(slot.column.kind is Kind.ID and place.tables[slot.role].has_name for slot in slots):
        return False
    listed = [slot for slot in slots if slot.key in ("a", "b")]
    if len({slot.role for slot in listed}) != 1:
        return True
    indices = [place.tables[slot.role].columns.index(slot.column) for slot in listed]
    return indices == sorted(indices)


def _stored(table: Table, column: Column, rows: Rows) -> list[Value]:
    index = table.columns.index(column)
    return [row[index] for row in rows[table.name]]
