"""Parts of the page's figures, through Plotly: curves over steps, stacks, the common look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from floe.cluster.report_page.step_series import MAX_POINTS, StepSeries, bucket_edges, bucketed, running_mean

MAX_BARS = 120  # above this number of steps, steps are drawn as areas
MAX_LABELLED = 12  # up to this number of steps, each has its number below it
MIN_SMOOTHED = 40  # from this number of steps a curve has a running mean
BLUE, GREEN, ORANGE, RED, PURPLE, GREY = "#3b82c4", "#1f9d6b", "#e09a2b", "#d4553f", "#9467bd", "#8a8f98"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure; `plot` holds Plotly's `data` and `layout`, or is None where `missing` says why there is none."""

    name: str  # id of its element
    title: str  # with its unit
    caption: str
    plot: Mapping[str, Any] | None
    missing: str = ""
    is_wide: bool = False


def plotly_source() -> str:
    """Return the library's own script, which the page contains."""
    source: str = get_plotlyjs()
    return source


def new_plot() -> go.Figure:
    return go.Figure()


def add_curve(figure: go.Figure, series: StepSeries, values: Sequence[float | None], label: str, colour: str) -> None:
    """Add each step, and where these are many their running mean on top."""
    x, y = points_of(series), bucketed(values, MAX_POINTS)
    is_smoothed = len(y) >= MIN_SMOOTHED
    mode = "lines" if len(y) > MIN_SMOOTHED else "lines+markers"
    figure.add_scatter(
        x=x,
        y=rounded(y),
        name=label,
        mode=mode,
        line={"color": colour, "width": 1 if is_smoothed else 2},
        marker={"size": 5},
        opacity=0.35 if is_smoothed else 1,
        showlegend=not is_smoothed,
        hoverinfo="skip" if is_smoothed else None,
    )
    if is_smoothed:
        smooth = rounded(running_mean(y, _window(len(y))))
        figure.add_scatter(x=x, y=smooth, name=label, mode="lines", line={"color": colour, "width": 2.2})


def add_stack(figure: go.Figure, series: StepSeries, values: Sequence[float | None], label: str, colour: str) -> None:
    x, y = points_of(series), rounded(bucketed(values, MAX_POINTS))
    if len(x) <= MAX_BARS:
        figure.add_bar(x=x, y=y, name=label, marker={"color": colour, "line": {"width": 0}})
    else:
        filled = [0 if value is None else value for value in y]
        line = {"width": 0, "color": colour}
        figure.add_scatter(x=x, y=filled, name=label, mode="lines", stackgroup="all", line=line, fillcolor=colour)


def finished(
    name: str, title: str, caption: str, figure: go.Figure, series: StepSeries | None, *, is_wide: bool = False
) -> Figure:
    """Return the figure with the common look, over the steps of `series`, if that is given."""
    figure.update_layout(
        template="none",
        height=300,
        margin={"l": 56, "r": 12, "t": 8, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        showlegend=sum(trace.showlegend is not False for trace in figure.data) > 1,
    )
    figure.update_xaxes(zeroline=False)
    if series is not None:
        figure.update_layout(barmode="stack", bargap=0.12)
        first, last = series.steps[0], series.steps[-1]
        every = 1 if last - first < MAX_LABELLED else None
        figure.update_xaxes(title="step", tickformat="d", range=[first - 0.6, last + 0.6], dtick=every)
        for step in sorted({one.step for one in series.findings}):
            figure.add_vline(x=step, line={"color": RED, "width": 1, "dash": "dash"})
    figure.update_yaxes(automargin=True, zeroline=False)
    return Figure(name=name, title=title, caption=caption, plot=json.loads(figure.to_json()), is_wide=is_wide)


def points_of(series: StepSeries) -> list[int]:
    """Return the last step of each bucket."""
    edges = bucket_edges(len(series.steps), MAX_POINTS)
    return [series.steps[end - 1] for end in edges[1:]]


def _window(num_points: int) -> int:
    return max(3, num_points // 20)


def smoothing_note(series: StepSeries) -> str:
    num_points = len(points_of(series))
    if num_points < MIN_SMOOTHED:
        return ""
    parts = [" Faint: each step; strong: the running mean."]
    if len(series.steps) > MAX_POINTS:
        parts.append(f" A point stands for about {len(series.steps) / MAX_POINTS:.1f} steps.")
    return "".join(parts)


def rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else _rounded_one(value) for value in values]


def _rounded_one(value: float) -> float:
    """Round to five significant digits, as many as a screen can show."""
    return float(f"{value:.5g}")
