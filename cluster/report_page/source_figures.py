"""A mixture's sources on the page: a row of figures and curves for each (pure but for Plotly)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from floe.cluster.report_page.figure_parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Figure,
    add_curve,
    finished,
    new_plot,
    rounded,
    smoothing_note,
)
from floe.cluster.report_page.step_series import Column, StepSeries, first_and_last
from floe.cluster.tracking.source_metrics import values_by_source

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)  # of the sources in turn


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One source over the steps of a run; a pair holds the means of the first and last tenth, None without any."""

    name: str
    num_questions: int
    question_share: float  # of all questions of the steps
    reward: tuple[float, float] | None
    right: tuple[float, float] | None
    equal_rewards: tuple[float, float] | None
    accuracy: tuple[float, float] | None  # of the first and last evaluation during training


def source_rows(series: StepSeries) -> list[SourceRow]:
    """Return a row for each source of a mixture; none without one."""
    counts = {
        name: int(sum(value for value in column if value is not None and isfinite(value)))
        for name, column in values_by_source(series.columns, "num_questions").items()
    }
    total = sum(counts.values())
    return [
        SourceRow(
            name=name,
            num_questions=count,
            question_share=count / total if total else 0.0,
            reward=_change(series, name, "reward_mean"),
            right=_change(series, name, "correct_share"),
            equal_rewards=_change(series, name, "zero_variance_share"),
            accuracy=_ends(values_by_source(series.columns, "eval_greedy").get(name, ())),
        )
        for name, count in sorted(counts.items())
    ]


def source_figures(series: StepSeries) -> list[Figure]:
    """Return curves of each source of a mixture; none without one."""
    found = [
        _curves(series, "source-reward", "Reward by source", "Mean over the source's candidates, from 0 to 1.",
                "reward_mean", "mean", 1),
        _curves(series, "source-right", "Right answers by source (%)", "Share of the source's candidates.",
                "correct_share", "%", 100),
        _curves(series, "source-equal", "Groups with equal rewards by source (%)",
                "A group whose rewards are all equal has nothing to learn from.", "zero_variance_share", "%", 100),
        _accuracy(series),
    ]  # fmt: skip
    return [figure for figure in found if figure is not None]


def _curves(
    series: StepSeries, name: str, title: str, caption: str, number: str, unit: str, factor: int
) -> Figure | None:
    columns = _columns(series, number)
    if not columns:
        return None
    figure = new_plot()
    for i, (source, column) in enumerate(columns.items()):
        values = [None if value is None else factor * value for value in column]
        add_curve(figure, series, values, _label(source), COLOURS[i % len(COLOURS)])
    figure.update_yaxes(title=unit, rangemode="tozero")
    return finished(name, title, caption + smoothing_note(series), figure, series)


def _accuracy(series: StepSeries) -> Figure | None:
    columns = _columns(series, "eval_greedy")
    if not columns:
        return None
    figure = new_plot()
    for i, (source, column) in enumerate(columns.items()):
        at = [j for j, value in enumerate(column) if value is not None]
        figure.add_scatter(
            x=[series.steps[j] for j in at],
            y=rounded([100 * (column[j] or 0) for j in at]),
            name=_label(source),
            mode="lines+markers",
            line={"color": COLOURS[i % len(COLOURS)], "width": 2},
        )
    figure.update_yaxes(title="% of questions", range=[0, 100])
    caption = "Greedy answers to the source's part of the sample of tune."
    return finished("source-accuracy", "Accuracy on held-back questions by source (%)", caption, figure, series)


def _columns(series: StepSeries, number: str) -> Mapping[str, Column]:
    """Return the columns that have a number, by source."""
    found = values_by_source(series.columns, number)
    return {name: column for name, column in sorted(found.items()) if any(value is not None for value in column)}


def _label(source: str) -> str:
    return html.escape(source, quote=False)  # Plotly would make a link of <a href>


def _change(series: StepSeries, source: str, number: str) -> tuple[float, float] | None:
    change = first_and_last(values_by_source(series.columns, number).get(source, ()))
    return None if change is None else change[:2]


def _ends(column: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in column if value is not None]
    return (known[0], known[-1]) if known else None
