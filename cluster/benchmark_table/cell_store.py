"""The folder of a table: a saved evaluation in each finished cell, with the key that says what it is an answer to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from floe.cluster.evaluation.saved_evaluation import Evaluation, read_evaluation
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import read_regular
from floe.configs.files.whole_files import write_whole

TABLE_FILE, CELL_FILE, CELLS_FOLDER, LOCK_FILE = "benchmarks.json", "cell.json", "cells", "table.lock"
TABLE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CellKey:
    """Everything that an evaluation depends on; a cell with another key is done anew."""

    harness_version: int
    questions: str  # digest
    prompts: str  # digest of their tokens
    databases: str  # digest of names and sizes
    comparator: str
    clock: str  # what SQL gets for the present time, in UTC
    answers: str  # number, temperature and length of the answers, and the seed
    model: str  # path, precision and digest of the files
    adapter: str  # digest of the weights; empty for the base model
    configuration: str  # digest of the other fields that an answer or a verdict depends on


_SAID = {"harness_version": "floe's harness", "answers": "the number, temperature or length of the answers"}


def changed(before: CellKey, now: CellKey) -> str:
    """Return words for what differs between two keys."""
    names = [one.name for one in fields(CellKey) if getattr(before, one.name) != getattr(now, one.name)]
    return ", ".join(_SAID.get(name, f"the {name}") for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCell:
    """The content of `cell.json`, which is written last: a cell without it was broken off."""

    key: CellKey
    evaluation_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTable:
    """The content of `benchmarks.json`: the table that the folder holds, and what was decided at its start."""

    version: int = TABLE_VERSION
    clock: str
    model_dtype: str
    rollout_dtype: str
    benchmarks: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)  # sentences by data set, or by `data set/policy`


_TABLES, _CELLS = TypeAdapter(StoredTable), TypeAdapter(StoredCell)


class CellStore:
    """Reads and writes one folder; one process at a time fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK_FILE)

    def open(self) -> None:
        """Make the folder and keep others out. Raises UserError for one that is in use or holds no table."""
        try:
            there = {one.name for one in self.folder.iterdir()} if self.folder.is_dir() else set()
            if there - {LOCK_FILE} and TABLE_FILE not in there:
                raise UserError(f"{self.folder} holds something else than a benchmark table: give a new folder.")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"Another process fills the table in {self.folder}: wait for its end.") from None
        except OSError as fault:
            raise UserError(f"Can't write in {self.folder} ({fault.strerror}): choose another --out.") from fault

    def close(self) -> None:
        self._lock.release()

    def table(self) -> StoredTable | None:
        """Return the table; None before there is one. Raises UserError for a file of another version."""
        path = self.folder / TABLE_FILE
        if not path.is_file():
            return None
        try:
            table = _TABLES.validate_json(read_regular(path))
        except (OSError, ValueError) as fault:
            raise UserError(f"{path} can't be read ({type(fault).__name__}): choose another folder.") from fault
        if table.version != TABLE_VERSION:
            raise UserError(f"{path} was written by another version of floe: choose another folder.")
        return table

    def put_table(self, table: StoredTable) -> None:
        self._write(self.folder / TABLE_FILE, json.dumps(asdict(table), indent=1, allow_nan=False) + "\n")

    def key(self, benchmark: str, policy: str) -> CellKey | None:
        """Return the key of a finished cell; None for one that is missing, broken off or damaged."""
        cell = self._cell(benchmark, policy)
        return None if cell is None else cell.key

    def evaluation(self, benchmark: str, policy: str) -> Evaluation:
        """Return the evaluation of a finished cell. Raises UserError."""
        return read_evaluation(self.cell_folder(benchmark, policy) / EVALUATION_FILE)

    def put(self, benchmark: str, policy: str, key: CellKey, evaluation: Evaluation) -> None:
        """Save a finished cell; a process that is killed meanwhile leaves an unfinished one."""
        folder = self.cell_folder(benchmark, policy)
        self.drop(benchmark, policy)
        content = evaluation.write(folder).read_bytes()
        cell = StoredCell(key=key, evaluation_sha256=sha256(content).hexdigest())
        self._write(folder / CELL_FILE, json.dumps(asdict(cell), indent=1) + "\n")

    def drop(self, benchmark: str, policy: str) -> None:
        """Make a cell an unfinished one."""
        (self.cell_folder(benchmark, policy) / CELL_FILE).unlink(missing_ok=True)

    def cell_folder(self, benchmark: str, policy: str) -> Path:
        return self.folder / CELLS_FOLDER / benchmark / policy

    def _cell(self, benchmark: str, policy: str) -> StoredCell | None:
        folder = self.cell_folder(benchmark, policy)
        try:
            cell = _CELLS.validate_json(read_regular(folder / CELL_FILE))
            content = read_regular(folder / EVALUATION_FILE)
        except (OSError, ValueError):  # a missing, unfinished or foreign cell is done anew
            return None
        return cell if sha256(content).hexdigest() == cell.evaluation_sha256 else None

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        except OSError as fault:
            raise UserError(f"Can't write {path} ({fault.strerror}): choose another --out.") from fault


def is_table(folder: Path) -> bool:
    return (folder / TABLE_FILE).is_file()


def with_names(table: StoredTable, benchmarks: Sequence[str], policies: Sequence[str]) -> StoredTable:
    """Return the table of another call, without the faults of an earlier one."""
    return replace(table, benchmarks=tuple(benchmarks), policies=tuple(policies), faults={})
