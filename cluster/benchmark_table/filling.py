"""Fills the cells of a table, one after the other; finished ones stay, and a broken-off one is done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from floe.cluster.benchmark_table.cell_store import CellKey, CellStore, StoredTable, changed, with_names
from floe.cluster.benchmark_table.rows import Column, Row, key_of, names_of, sentence_of
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import AdapterProofError, LostError, UserError, is_stop

Place = tuple[str, str]  # of a cell: data set and policy


class Answers(Protocol):
    """Has a policy answer a data set. Raises UserError where it can't, which leaves the cell empty."""

    def evaluation(self, row: Row, column: Column) -> Evaluation: ...


@dataclass(slots=True)
class Filled:
    """The cells of a table by data set and policy; each has an evaluation or a sentence that says why not."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    evaluations: dict[Place, Evaluation] = field(default_factory=dict)
    faults: dict[Place, str] = field(default_factory=dict)
    num_kept: int = 0  # cells of an earlier call

    @property
    def has_faults(self) -> bool:
        return bool(self.faults) or any(one.fault is not None for one in self.rows)

    def stored_faults(self) -> dict[str, str]:
        """Return the faults as the table's file has them."""
        of_rows = {row.name: row.fault for row in self.rows if row.fault is not None}
        return of_rows | {"/".join(place): fault for place, fault in self.faults.items()}


def fill(
    rows: Sequence[Row],
    columns: Sequence[Column],
    store: CellStore,
    table: StoredTable,
    answers: Callable[[Sequence[Column]], AbstractContextManager[Answers]],
    progress: Progress,
) -> Filled:
    """Fill what is not there yet. `answers` is entered once, with the policies that lack a cell, if any does.

    Every cell that answers something else now is given up before the first one is filled, so that the folder never
    holds cells of two configurations. Raises LostError and Interrupted; the finished cells stay.
    """
    filled = Filled(rows=tuple(rows), columns=tuple(columns))
    table = with_names(table, names_of(rows), names_of(columns))
    keys = _keys(filled)
    missing = [place for place in keys if not _is_kept(store, place, keys[place], progress)]
    filled.num_kept = len(keys) - len(missing)
    if filled.num_kept:
        progress.note(f"{filled.num_kept} of {len(keys)} cells are there already")
    store.put_table(replace(table, faults=filled.stored_faults()))
    if missing:
        at_work = [one for one in columns if any(place[1] == one.name for place in missing)]
        with answers(at_work) as answering:
            _fill(missing, filled, keys, store, answering, progress)
    for place in keys:
        if place not in filled.faults:
            filled.evaluations[place] = store.evaluation(*place)
    store.put_table(replace(table, faults=filled.stored_faults()))
    return filled


def _fill(
    missing: Sequence[Place],
    filled: Filled,
    keys: Mapping[Place, CellKey],
    store: CellStore,
    answering: Answers,
    progress: Progress,
) -> None:
    rows, columns = {one.name: one for one in filled.rows}, {one.name: one for one in filled.columns}
    for number, place in enumerate(missing, start=1):
        progress.phase(f"{', '.join(place)}: cell {number} of {len(missing)}")
        try:
            evaluation = answering.evaluation(rows[place[0]], columns[place[1]])
        except UserError as fault:
            if is_stop(fault) or isinstance(fault, LostError | AdapterProofError):
                raise
            filled.faults[place] = sentence_of(fault)
            progress.note(f"{', '.join(place)}: {sentence_of(fault)}")
            continue
        store.put(*place, keys[place], evaluation)


def _keys(filled: Filled) -> dict[Place, CellKey]:
    """Return the key of each cell that can be asked, data set by data set; note the faults of the others."""
    keys = {}
    for row in filled.rows:
        for column in filled.columns:
            if row.fault is not None:
                continue
            if column.fault is not None:
                filled.faults[row.name, column.name] = column.fault
            else:
                keys[row.name, column.name] = key_of(row, column)
    return keys


def _is_kept(store: CellStore, place: Place, key: CellKey, progress: Progress) -> bool:
    found = store.key(*place)
    if found == key:
        return True
    if found is not None:
        progress.note(f"{place[0]}, {place[1]}: done anew, because {changed(found, key)} changed")
    store.drop(*place)
    return False
