"""Reads users' databases in a child that can be killed: what one table costs is bounded, and Ctrl-C always works."""

from __future__ import annotations

import atexit
import base64
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from floe.actors.databases.foreign_keys import with_real_keys
from floe.actors.databases.reading_run import ReadingRun
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.databases.schemas import Column, ColumnName, ForeignKey, TableSchema
from floe.cluster.contained.process import ContainedProcess, ProcessUnavailable
from floe.cluster.contained.runs import run_all
from floe.configs.errors import UserError


class FoundSchema(NamedTuple):
    """The tables and views of a database, and a sentence for each that can't be read here, or only in part."""

    tables: tuple[TableSchema, ...]
    left_out: tuple[str, ...]


class FoundTexts(NamedTuple):
    """Distinct texts by column, and a sentence for each table or column that can't be read here."""

    texts: tuple[tuple[ColumnName, str], ...]
    left_out: tuple[str, ...]


class ContainedDatabases:
    """Owns the child; its methods may be called by several threads, which take turns."""

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._process = ContainedProcess(settings, settings.wall_limit_s)
        self._lock = threading.Lock()

    def find_schema(self, database: Path, num_examples: int) -> FoundSchema:
        """Return tables by name, then views; one that can't be read does not hide the others.

        Raises UserError for a file that can't be read, or has no table.
        """
        listed: list[tuple[str, bool]] = self._read(database, [("tables",)]).values[0]
        names, is_view = [name for name, _ in listed], dict(listed)
        described = self._read(database, [("table", name) for name in names])
        sampled = [names[index] for index in sorted(described.values) if not is_view[names[index]]]
        examples = self._read(database, [("examples", name, num_examples) for name in sampled if num_examples])
        left_out = [f"{_table(names[i], database)} is left out: {why}" for i, why in sorted(described.faults.items())]
        left_out += [
            f"{_table(sampled[i], database)} is shown without example values: {why}"
            for i, why in sorted(examples.faults.items())
        ]
        examples_of = {sampled[number]: found for number, found in examples.values.items()}
        tables = [
            _schema(names[index], is_view[names[index]], described.values[index], examples_of.get(names[index], {}))
            for index in sorted(described.values)
        ]
        if not tables:
            raise UserError(f"{database} has no table to ask about ({(*left_out, 'it is empty')[0]}): check the file.")
        return FoundSchema(with_real_keys(tables), tuple(left_out))

    def find_texts(self, database: Path) -> FoundTexts:
        """Return distinct texts of each column, the first in the table's order, bounded in number. Raises UserError."""
        schema = self.find_schema(database, 0)
        tables = [table for table in schema.tables if not table.is_view]
        columns = [ColumnName(table.name, column.name) for table in tables for column in table.columns]
        found = self._read(database, [("texts", *name) for name in columns])
        texts = tuple((columns[index], value) for index in sorted(found.values) for value in found.values[index])
        left_out = [
            f"column {columns[index].column!r} of {_table(columns[index].table, database)} is not searched: {why}"
            for index, why in sorted(found.faults.items())
        ]
        return FoundTexts(texts, (*schema.left_out, *left_out))

    def build(self, texts: Sequence[str]) -> list[bytes | str]:
        """Return the database file made from each text of CREATE and INSERT statements, or why there is none.

        Raises UserError when the child can't be started, or is ended from outside.
        """
        run = ReadingRun("", [("build", text) for text in texts], self._settings.time_limit_s)
        self._carry(run, "the databases")
        if run.file_fault:
            raise UserError(f"The databases can't be made ({run.file_fault}): give the command again.")
        return [
            base64.b64decode(run.values[index]) if index in run.values else run.faults[index]
            for index in range(len(texts))
        ]

    def close(self) -> None:
        with self._lock:
            self._process.close()

    def _read(self, database: Path, steps: Sequence[Sequence[Any]]) -> ReadingRun:
        run = ReadingRun(str(database), steps, self._settings.time_limit_s)
        if not steps:
            return run
        self._carry(run, str(database))
        if run.file_fault or (steps[0][0] == "tables" and run.faults):
            why = run.file_fault or f"its tables can't be listed: {run.faults[0]}"
            raise UserError(why if str(database) in why else f"{database} can't be read ({why}): check the file.")
        return run

    def _carry(self, run: ReadingRun, what: str) -> None:
        with self._lock:
            try:
                run_all(self._process, [run])
            except ProcessUnavailable as fault:
                raise UserError(f"{what} can't be read ({fault}): fix that, and give the command again.") from fault
            except BaseException:  # a Ctrl-C leaves answers on their way, which the next request would take for its own
                self._process.close()
                raise


def find_schema(database: Path, num_examples: int) -> FoundSchema:
    """Do as `ContainedDatabases.find_schema` does, with this process's own child."""
    return _databases().find_schema(database, num_examples)


def read_schema(database: Path, num_examples: int) -> tuple[TableSchema, ...]:
    """Return the tables alone. Raises UserError when the file can't be read as a database."""
    return find_schema(database, num_examples).tables


def find_texts(database: Path) -> FoundTexts:
    """Do as `ContainedDatabases.find_texts` does, with this process's own child."""
    return _databases().find_texts(database)


def build_databases(texts: Sequence[str]) -> list[bytes | str]:
    """Do as `ContainedDatabases.build` does, with this process's own child."""
    return _databases().build(texts)


def close_own_child() -> None:
    """End this process's own child where there is one; the next call of those above starts another."""
    if _databases.cache_info().currsize:
        _databases().close()


@cache
def _databases() -> ContainedDatabases:
    made = ContainedDatabases(ReadingSettings())
    atexit.register(made.close)
    return made


def _table(name: str, database: Path) -> str:
    return f"table {name!r} of {database}"


def _schema(name: str, is_view: bool, described: dict[str, Any], examples: dict[str, list[str]]) -> TableSchema:
    return TableSchema(
        name=name,
        columns=tuple(
            Column(name=column, type=kind, examples=tuple(examples.get(column, ())), description=comment)
            for column, kind, comment in described["columns"]
        ),
        primary_key=tuple(described["primary_key"]),
        foreign_keys=tuple(
            ForeignKey(columns=tuple(columns), table=table, referred_columns=tuple(referred))
            for columns, table, referred in described["foreign_keys"]
        ),
        is_view=is_view,
    )
