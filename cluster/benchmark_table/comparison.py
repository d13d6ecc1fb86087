"""Two benchmark tables, data set by data set: paired differences of the same policies, and their macro average."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.benchmark_table.averages import smallest_resolved
from floe.cluster.benchmark_table.cell_store import CellStore, StoredTable
from floe.cluster.benchmark_table.printed import difference_text
from floe.cluster.benchmark_table.table import Difference, Values, common_values, macro_difference
from floe.cluster.benchmark_table.table_file import MACRO_AVERAGE
from floe.cluster.evaluation.paired_comparison import PairedComparison, compare_evaluations
from floe.cluster.evaluation.summary import is_shown
from floe.configs.errors import UserError

A, B = "a", "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPolicies:
    """The differences of one policy of B to one of A, by data set and over all that both have."""

    a_policy: str
    b_policy: str
    by_set: Mapping[str, PairedComparison]
    resolves: Mapping[str, Mapping[str, float]]  # by data set and measure
    faults: Mapping[str, str]  # by data set
    macro: Mapping[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTables:
    """Table B to table A; above 0 is in favour of B."""

    a: str
    b: str
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    policies_only_in_a: tuple[str, ...]
    policies_only_in_b: tuple[str, ...]
    pairs: tuple[ComparedPolicies, ...]
    num_samples: int = field(default=1)

    @property
    def has_faults(self) -> bool:
        return any(one.faults for one in self.pairs)

    def to_json(self) -> str:
        """Return indented JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    def render(self, console: Console) -> None:
        """Print a table for each pair of policies, and what only one side has."""
        for pair in self.pairs:
            console.print(_table(pair, self))
            for name, fault in pair.faults.items():
                console.print(Text(f"{name}: {fault}"), soft_wrap=True)
        if any(one.clocks for pair in self.pairs for one in pair.by_set.values()):
            console.print("SQL got another present time in A than in B: answers that ask for it may differ.")
        for what, side, names in (
            ("data sets", self.a, self.only_in_a),
            ("data sets", self.b, self.only_in_b),
            ("policies", self.a, self.policies_only_in_a),
            ("policies", self.b, self.policies_only_in_b),
        ):
            if names:
                console.print(Text(f"Only {side} has the {what} {', '.join(names)}."), soft_wrap=True)


def compare_tables(a: Path, b: Path, num_resamples: int) -> ComparedTables:
    """Compare the tables in two folders. Raises UserError where they share no data set or no policy."""
    stores = CellStore(a), CellStore(b)
    tables = _table_in(stores[0]), _table_in(stores[1])
    shared = [name for name in tables[0].benchmarks if name in tables[1].benchmarks]
    if not shared:
        raise UserError(f"The tables in {a} and {b} share no name of a data set: compare tables of the same sets.")
    pairs = _policy_pairs(*tables)
    compared = tuple(_compared(stores, tables, shared, pair, num_resamples) for pair in pairs)
    if not any(one.by_set for one in compared):
        first = next(fault for one in compared for fault in one.faults.values())
        raise UserError(f"No data set of {a} and {b} can be compared; the first fault: {first}")
    return ComparedTables(
        a=str(a),
        b=str(b),
        only_in_a=_others(tables[0].benchmarks, shared),
        only_in_b=_others(tables[1].benchmarks, shared),
        policies_only_in_a=_others(tables[0].policies, [one for one, _ in pairs]),
        policies_only_in_b=_others(tables[1].policies, [one for _, one in pairs]),
        pairs=compared,
        num_samples=next(one.num_samples for pair in compared for one in pair.by_set.values()),
    )


def _table_in(store: CellStore) -> StoredTable:
    table = store.table()
    if table is None:
        raise UserError(f"There is no benchmark table in {store.folder}: give a folder of floe evaluate --benchmarks.")
    return table


def _others(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in names if one not in known)


def _policy_pairs(a: StoredTable, b: StoredTable) -> list[tuple[str, str]]:
    """Return the policies of the same name; where each table has only one, these two."""
    if shared := [(name, name) for name in a.policies if name in b.policies]:
        return shared
    if len(a.policies) == len(b.policies) == 1:
        return [(a.policies[0], b.policies[0])]
    raise UserError(
        f"The tables have no policy of the same name ({', '.join(a.policies)} and {', '.join(b.policies)}): name those "
        "alike that belong together, or compare two cells."
    )


def _compared(
    stores: tuple[CellStore, CellStore],
    tables: tuple[StoredTable, StoredTable],
    names: Sequence[str],
    pair: tuple[str, str],
    num_resamples: int,
) -> ComparedPolicies:
    by_set: dict[str, PairedComparison] = {}
    faults: dict[str, str] = {}
    values: list[Values] = []
    resolves: dict[str, dict[str, float]] = {}
    folders = str(stores[0].folder), str(stores[1].folder)
    seed = 0
    for name in names:
        try:
            for store, table, policy in zip(stores, tables, pair, strict=True):
                _check_finished(store, table, name, policy)
            first, second = (store.evaluation(name, one) for store, one in zip(stores, pair, strict=True))
            by_set[name] = compare_evaluations(first, second, folders, num_resamples)
        except UserError as fault:
            faults[name] = str(fault)
            continue
        seed = second.identity.seed
        values.append(common_values({A: first, B: second})[0])
        resolves[name] = {
            measure: smallest_resolved(one, [one.num_questions]) for measure, one in by_set[name].differences.items()
        }
    measures = [one for one in values[0] if all(one in of_set for of_set in values)] if values else []
    macro = {one: macro_difference(values, one, B, A, num_resamples, seed) for one in measures}
    return ComparedPolicies(
        a_policy=pair[0], b_policy=pair[1], by_set=by_set, resolves=resolves, faults=faults, macro=macro
    )


def _check_finished(store: CellStore, table: StoredTable, name: str, policy: str) -> None:
    fault = table.faults.get(name) or table.faults.get(f"{name}/{policy}")
    if fault is not None:
        raise UserError(f"{store.folder} has no answers of {policy}: {fault}")
    if store.key(name, policy) is None:
        raise UserError(f"{store.folder} has no finished cell of {policy}: fill it with the same command again.")


def _table(pair: ComparedPolicies, tables: ComparedTables) -> Table:
    title = (
        f"{pair.b_policy} of {tables.b} to {pair.a_policy} of {tables.a}: paired difference in points with 95 % "
        "interval, and the smallest that it tells from 0"
    )
    shown = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("data set", overflow="fold")
    shown.add_column("questions", justify="right")
    measures = [name for name in _shown(tables.num_samples) if name in pair.macro]
    for measure in measures:
        shown.add_column(measure, justify="right", overflow="fold")
    shown.add_column("gained", justify="right")
    shown.add_column("lost", justify="right")
    shown.add_column("McNemar's p", justify="right")
    for name, one in pair.by_set.items():
        test = one.tests["greedy"]
        cells = [
            difference_text(Difference(interval=one.differences[measure], resolves=pair.resolves[name][measure]))
            for measure in measures
        ]
        tested = (str(test.num_gained), str(test.num_lost), f"{test.p_value:.3g}")
        shown.add_row(Text(name), str(one.num_questions), *cells, *tested)
    shown.add_section()
    num_questions = sum(one.num_questions for one in pair.by_set.values())
    macro = [difference_text(pair.macro[measure]) for measure in measures]
    shown.add_row(MACRO_AVERAGE, str(num_questions), *macro, "", "", "")
    return shown


def _shown(num_samples: int) -> list[str]:
    """Return the measures that fit the terminal: greedy, and pass@n where there are samples."""
    last = f"pass@{num_samples}"
    return ["greedy", *([last] if num_samples > 1 and is_shown(last, num_samples) else [])]
