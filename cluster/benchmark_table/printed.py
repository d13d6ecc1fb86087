"""A benchmark table on the terminal, within 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floe.cluster.benchmark_table.table import BenchmarkTable, Difference, TableCell, TableRow, shown_measures
from floe.cluster.evaluation.before_after_table import percent
from floe.cluster.evaluation.plain_words import MIN_QUESTIONS
from floe.cluster.evaluation.summary import use_lines

SMALL = "*"


def print_table(table: BenchmarkTable, console: Console) -> None:
    """Print a table for each measure, and below it why a row or a cell has no figure."""
    for measure in shown_measures(table.num_samples):
        console.print(_table(table, measure))
    for line in lines_below(table):
        console.print(Text(line), soft_wrap=True)


def lines_below(table: BenchmarkTable) -> list[str]:
    """Return what the figures don't say, a line each."""
    lines = []
    if len(table.policies) > 1:
        first = table.policies[0]
        lines.append(f"+/-: paired difference to {first} in points; from: the smallest that its interval tells from 0.")
    if table.macro is not None:
        of = f"{len(table.macro_of)} of {len(table.rows)} data sets"
        lines.append(f"The macro average is over {of}, each with the same weight.")
    if any(row.is_small for row in table.rows):
        lines.append(f"{SMALL} fewer than {MIN_QUESTIONS} questions: too few to tell a gain from chance.")
    of_policies = _faults_of_policies(table)
    lines += [f"{policy}: {fault}" for policy, fault in of_policies.items()]
    for row in table.rows:
        lines += [f"{row.name}: {note}" for note in row.notes]
        lines += [f"{row.name}: {row.fault}"] if row.fault is not None else []
        lines += [
            f"{row.name}, {one.policy}: {one.fault}"
            for one in row.cells
            if one.fault is not None and one.policy not in of_policies
        ]
        lines += _left_out_lines(row)
        for cell in row.cells:
            used = () if cell.endpoint is None else use_lines(cell.endpoint)
            lines += [f"{row.name}, {cell.policy}: {one}" for one in used]
    return lines


def _left_out_lines(row: TableRow) -> list[str]:
    """Return a line for each policy that lacks verdicts; one for all where the same questions lack them."""
    by_policy = {f"{row.name}, {one.policy}": one.left_out for one in row.cells if one.fault is None}
    if len(by_policy) > 1 and len(set(by_policy.values())) == 1:
        by_policy = {row.name: next(iter(by_policy.values()))}
    return [
        f"{where}: no usable verdict on {found[0]}"
        + (f", and {len(found) - 1} more in --json" if len(found) > 1 else "")
        for where, found in by_policy.items()
        if found
    ]


def _faults_of_policies(table: BenchmarkTable) -> dict[str, str]:
    """Return the faults that a policy has on every data set, as an adapter that is missing."""
    faults: dict[str, set[str | None]] = {name: set() for name in table.policies}
    for row in table.rows:
        for cell in row.cells:
            faults[cell.policy].add(cell.fault)
    return {name: one for name, found in faults.items() if len(found) == 1 and (one := next(iter(found))) is not None}


def _table(table: BenchmarkTable, measure: str) -> Table:
    title = f"{measure}: execution accuracy in % with 95 % interval"
    shown = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("data set", overflow="fold")
    shown.add_column("questions", justify="right")
    shown.add_column("left out", justify="right")
    for name in table.policies:
        shown.add_column(Text(name), justify="right", overflow="fold")
    for row in table.rows:
        _add(shown, row, measure, table.policies)
    if table.macro is not None:
        shown.add_section()
        _add(shown, table.macro, measure, table.policies)
    return shown


def _add(shown: Table, row: TableRow, measure: str, policies: Sequence[str]) -> None:
    by_policy: Mapping[str, TableCell] = {one.policy: one for one in row.cells}
    name = f"{row.name} {SMALL}" if row.is_small else row.name
    counts = ("-", "-") if row.fault is not None else (str(row.num_questions), str(row.num_left_out))
    shown.add_row(Text(name), *counts, *(_cell(by_policy.get(one), measure) for one in policies))


def _cell(cell: TableCell | None, measure: str) -> Text:
    if cell is None or cell.fault is not None:
        return Text("failed, see below")
    text = percent(cell.figures.get(measure))
    if (difference := cell.differences.get(measure)) is not None:
        text.append_text(Text(f"\n{difference_text(difference)}"))
    return text


def difference_text(difference: Difference) -> str:
    """Return a difference in points with its interval, and the smallest that it resolves."""
    return f"{percent(difference.interval, sign='+').plain}\nfrom {100 * difference.resolves:.1f}"
