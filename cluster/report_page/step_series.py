"""The numbers of a run's steps as columns, from the text of `metrics.jsonl` (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from floe.cluster.health.finding import HealthFinding, findings_of
from floe.cluster.messages import Outcome
from floe.configs.files.foreign_files import parsed_json

MAX_POINTS = 1000  # points of a curve

Column = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSeries:
    """Columns run parallel to `steps`, which rise; a number that a record lacks or that was not finite is None."""

    steps: tuple[int, ...]
    columns: Mapping[str, Column]
    groups_by_staleness: tuple[tuple[int, ...], ...]
    num_unreadable: int = 0  # number of lines
    findings: tuple[HealthFinding, ...] = ()  # the health guard's

    def column(self, name: str) -> Column:
        return self.columns.get(name, (None,) * len(self.steps))

    def has(self, *names: str) -> bool:
        """Return whether one of the columns has a number."""
        return any(value is not None for name in names for value in self.column(name))


def parse_metrics(text: str) -> StepSeries:
    """Parse the metrics. A last line without its end is still being written, and does not count."""
    records: dict[int, dict[str, Any]] = {}
    num_unreadable = 0
    for line in text.split("\n")[:-1]:
        try:
            record = parsed_json(line)
            records[int(record["step"])] = record
        except (ValueError, KeyError, TypeError, OverflowError):
            num_unreadable += bool(line.strip())
    steps = sorted(records)
    names = dict.fromkeys(name for step in steps for name, value in records[step].items() if _is_number(value))
    return StepSeries(
        steps=tuple(steps),
        columns={name: tuple(_number(records[step].get(name)) for step in steps) for name in names},
        groups_by_staleness=tuple(_counts(records[step].get("groups_by_staleness")) for step in steps),
        num_unreadable=num_unreadable,
        findings=tuple(one for step in steps for one in findings_of(records[step])),
    )


def with_outcomes(series: StepSeries, outcomes: Mapping[int, Mapping[Outcome, int]]) -> StepSeries:
    """Return the series with the counts of the steps' own candidates where these are known.

    A record counts what was scored since the one before it. Where generation runs ahead, part of that belongs to the
    next step, and an evaluation between the two takes it away.
    """
    columns = {}
    for outcome in Outcome:
        name = f"outcome_{outcome.value}"
        recorded = zip(series.steps, series.column(name), strict=True)
        columns[name] = tuple(outcomes[step].get(outcome, 0) if step in outcomes else old for step, old in recorded)
    return replace(series, columns={**series.columns, **columns})


def bucketed(values: Sequence[float | None], num_points: int) -> list[float | None]:
    """Return means of `num_points` runs of neighbours of about equal length; the values where there are fewer."""
    if len(values) <= num_points:
        return list(values)
    edges = bucket_edges(len(values), num_points)
    return [_mean(values[start:end]) for start, end in pairwise(edges)]


def bucket_edges(num_values: int, num_points: int) -> list[int]:
    """Return where the buckets begin, and where the last one ends."""
    num_buckets = min(num_values, num_points)
    return [round(i * num_values / num_buckets) for i in range(num_buckets + 1)] if num_values else [0]


def running_mean(values: Sequence[float | None], num_steps: int) -> list[float | None]:
    """Return the mean over a centred odd window of about `num_steps` values, shorter at the ends; or None."""
    half = num_steps // 2
    return [_mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def first_and_last(values: Column) -> tuple[float, float, int] | None:
    """Return means over a tenth of the values, at least one, at the beginning and at the end, and their number."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    count = max(1, len(known) // 10)
    return fmean(known[:count]), fmean(known[-count:]), count


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _number(value: Any) -> float | None:
    return value if _is_number(value) else None


def _counts(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(one, int) for one in value) else ()
