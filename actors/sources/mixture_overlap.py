"""Keeps a mixture's training apart from the evaluations of its sources, and from its own repetitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from floe.actors.databases.contained_databases import read_schema
from floe.actors.databases.schemas import TableSchema
from floe.actors.questions.normal_forms import normal_question
from floe.actors.questions.selection import Overlap
from floe.cluster.databases.places import database_path
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.sections.source_section import SourceSection

HELD_BACK = ("tune", "test")

DatabaseKey = tuple[int, str]  # number of the first source that has it, and its id there, in lower case


class Source(Protocol):
    @property
    def section(self) -> SourceSection: ...

    @property
    def databases_dir(self) -> Path: ...

    @property
    def splits(self) -> Mapping[str, tuple[Question, ...]]: ...


def without_overlap(sources: Sequence[Source], note: Callable[[str], None]) -> list[tuple[Question, ...]]:
    """Return each source's training questions without those that another source rules out, which `note` counts.

    Ruled out are a question or a gold of another source's `tune` or `test` (by normal form), a database that another
    source holds back whole, and a question that an earlier source trains on over the same database. Databases are the
    same by id and schema. Within one source `floe prepare` has seen to it.
    """
    keys = _database_keys(sources)
    overlaps = [_overlap_of(one) for one in sources]
    held_back = [_whole_databases_of(one, keys[number]) for number, one in enumerate(sources)]
    seen: dict[tuple[DatabaseKey, str], int] = {}
    kept = []
    for number, source in enumerate(sources):
        others = [other for other in range(len(sources)) if other != number]
        reasons: Counter[str] = Counter()
        left = []
        for question in source.splits["train"]:
            key = keys[number][question.database_id], normal_question(question.text)
            reason = next((fault[0] for other in others if (fault := overlaps[other].fault(question))), None)
            if reason is None and any(key[0] in held_back[other] for other in others):
                reason = "overlap_database"
            if reason is None and seen.get(key, number) != number:
                reason = "duplicate_question"
            if reason is None:
                seen.setdefault(key, number)
                left.append(question)
            else:
                reasons[reason] += 1
        if reasons:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
            note(
                f"mixture: {reasons.total():,} of {len(source.splits['train']):,} training questions of "
                f"{source.section.label} are left out, because another source has them ({counts})"
            )
        kept.append(tuple(left))
    return kept


def _overlap_of(source: Source) -> Overlap:
    return Overlap.of({f"{source.section.label}/{name}": source.splits[name] for name in HELD_BACK})


def _whole_databases_of(source: Source, keys: Mapping[str, DatabaseKey]) -> set[DatabaseKey]:
    """Return the databases of its evaluations of which it trains on no question."""
    asked = {question.database_id for name in HELD_BACK for question in source.splits[name]}
    return {keys[one] for one in asked - {question.database_id for question in source.splits["train"]}}


def _database_keys(sources: Sequence[Source]) -> list[dict[str, DatabaseKey]]:
    """Return what tells databases apart, by source and id there; only equal ids are looked into."""
    ids = [{question.database_id for split in one.splits.values() for question in split} for one in sources]
    shared = Counter(name for found in ids for name in {one.casefold() for one in found})
    first: dict[tuple[str, tuple[TableSchema, ...]], DatabaseKey] = {}
    keys: list[dict[str, DatabaseKey]] = []
    for number, source in enumerate(sources):
        keys.append({})
        for one in sorted(ids[number]):
            plain = one.casefold()
            own = (number, plain)
            schema = _schema(source, one) if shared[plain] > 1 else None
            keys[number][one] = own if schema is None else first.setdefault((plain, schema), own)
    return keys


def _schema(source: Source, database_id: str) -> tuple[TableSchema, ...] | None:
    """Return the schema; None for a file that can't be read, of which the checks of a run's files speak."""
    try:
        return read_schema(database_path(source.databases_dir, database_id), num_examples=0)
    except UserError:
        return None
