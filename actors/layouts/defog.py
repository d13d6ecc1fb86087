"""Defog's SQL-Eval: CSV files with several accepted queries each, where any of some columns may be shown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from floe.actors.layouts.interface import ByName, Layout
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records

# A text or a quoted name, in which marks have no meaning; a statement's end; columns of which any number is accepted.
_PARTS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<end>;)|\{(?P<columns>[^{}]*)\}", re.DOTALL)
MAX_GOLDS = 64


def records(path: Path) -> list[Record]:
    return [_record(record) for record in read_records(path)]


def accepted_queries(text: str) -> list[str]:
    """Return the accepted queries between semicolons, one for each choice of columns, at most MAX_GOLDS."""
    golds = (one for query in _statements(text) for one in _choices(query))
    return list(dict.fromkeys(itertools.islice(golds, MAX_GOLDS)))


def _record(record: Record) -> Record:
    value = record.value
    if record.fault or not isinstance(value, dict) or not isinstance(value.get("query"), str):
        return record
    golds = accepted_queries(value["query"])
    evidence = {"instructions": value.get("full_instructions") or value.get("instructions") or ""}
    return Record(where=record.where, index=record.index, value=value | evidence | {"query": golds})


def _statements(text: str) -> list[str]:
    cuts = [-1, *(one.start() for one in _PARTS.finditer(text) if one["end"]), len(text)]
    parts = (text[start + 1 : end].strip() for start, end in itertools.pairwise(cuts))
    return [part for part in parts if part]


def _choices(query: str) -> Iterator[str]:
    """Return the query for each choice of at least one column of every set of columns, the choice of all first."""
    sets = [one for one in _PARTS.finditer(query) if one["columns"] is not None]
    pieces = [
        query[start:end] for start, end in itertools.pairwise([0, *(x for one in sets for x in one.span()), len(query)])
    ]
    for choice in itertools.product(*(_subsets(one["columns"]) for one in sets)):
        yield "".join(piece + chosen for piece, chosen in zip(pieces[::2], (*choice, ""), strict=True))


def _subsets(columns: str) -> list[str]:
    names = [name.strip() for name in columns.split(",")]
    sizes = range(len(names), 0, -1)
    return [", ".join(chosen) for size in sizes for chosen in itertools.combinations(names, size)]


LAYOUT = Layout(
    name="defog",
    summary="Defog's SQL-Eval: *.csv of db_name, query, question and instructions, databases/",
    find=ByName(splits=(("all", ("*.csv",)),), is_ours=lambda path: "db_name" in first_record(path)),
    records=records,
)
