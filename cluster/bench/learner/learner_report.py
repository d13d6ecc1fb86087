"""The learner bench's tables, and the same as a record for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from floe.cluster.bench.learner.learner_figures import SHARED, TRL, UNSHARED, Fit, Result
from floe.cluster.bench.targets import Target, targets_table
from floe.cluster.terminal.progress import make_console


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    notes: tuple[str, ...]  # what was run, and what was left out
    shapes: tuple[Result, ...]
    sweep: tuple[Result, ...]
    fit: Fit | None  # None without a sweep
    targets: tuple[Target, ...]

    def record(self) -> dict[str, Any]:
        return {
            "notes": list(self.notes),
            "shapes": [_record(result) | _limit_record(result) for result in self.shapes],
            "sweep": [_record(result) for result in self.sweep],
            "fit": None if self.fit is None else asdict(self.fit),
            "targets": [target.record() for target in self.targets],
        }

    def render(self) -> None:
        console = make_console()
        console.print(_ways(self.shapes))
        console.print(_limits(self.shapes))
        if self.fit is not None:
            console.print(_sweep(self.sweep))
            console.print(
                f"Sweep, prompt shared: {self.fit.ms_per_token:.2f} ms per packed token and "
                f"{self.fit.constant_ms:.0f} ms per update, R^2 {self.fit.r_squared:.4f}.\n"
            )
        console.print(targets_table("ratio", self.targets))
        for note in self.notes:
            console.print(note)


def _record(result: Result) -> dict[str, Any]:
    return {
        **asdict(result.case),
        "packed_tokens": result.shared.num_tokens,
        "flops": {"shared": result.shared_flops.total, "unshared": result.unshared_flops.total},
        "ways": {
            name: asdict(tally) | {"median_s": tally.median_s, "trained_per_s": result.trained_per_s(name)}
            for name, tally in result.ways.items()
        },
    }


def _limit_record(result: Result) -> dict[str, Any]:
    names = ("flop_ratio", "matmul_flops_per_s", "limit_s", "share_of_limit")
    return {name: getattr(result, name) for name in names}


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ways(results: Sequence[Result]) -> Table:
    table = _table("prompt/completion, way", "completion tokens/s", "s per group", "peak GiB", "rounds")
    for result in results:
        for name, tally in result.ways.items():
            table.add_row(
                f"{result.case.name}, {name}",
                f"{result.trained_per_s(name):.1f}",
                f"{tally.median_s:.2f}",
                f"{tally.peak_gib:.2f}",
                str(len(tally.seconds)),
            )
    return table


def _limits(results: Sequence[Result]) -> Table:
    table = _table(
        "shape",
        "FLOP ratio",
        "measured",
        "TFLOP, shared",
        "matmul GFLOP/s",
        "limit, s",
        "measured, s",
        "share of limit",
    )
    for result in results:
        table.add_row(
            result.case.name,
            f"{result.flop_ratio:.2f}",
            _ratio(result.speedup(UNSHARED)),
            f"{result.shared_flops.total / 1e12:.2f}",
            f"{result.matmul_flops_per_s / 1e9:.0f}",
            f"{result.limit_s:.2f}",
            f"{result.ways[SHARED].median_s:.2f}",
            f"{result.share_of_limit:.0%}",
        )
    return table


def _sweep(results: Sequence[Result]) -> Table:
    table = _table("group size", "packed tokens", "s", "ms per packed token", "FLOP ratio", "/ unshared", "/ trl")
    for result in results:
        seconds = result.ways[SHARED].median_s
        table.add_row(
            str(result.case.group_size),
            str(result.shared.num_tokens),
            f"{seconds:.2f}",
            f"{1000 * seconds / result.shared.num_tokens:.2f}",
            f"{result.flop_ratio:.2f}",
            _ratio(result.speedup(UNSHARED)),
            _ratio(result.speedup(TRL)),
        )
    return table
