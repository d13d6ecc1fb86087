"""The plot of an ablation, as one HTML file without a network."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from floe.cluster.ablation.report import AblationReport, AblationRow
from floe.cluster.evaluation.intervals import Interval

COLOURS = ("#3f6fb5", "#c8703a", "#4f8f5b", "#8a5fa8", "#b5483f", "#7a7a7a", "#3a9a9a", "#b59a3f")


def ablation_page(report: AblationReport) -> str:
    """Return a page of accuracies with intervals, right rollouts by tokens, and the reward of wrong candidates."""
    arms = list(dict.fromkeys(row.arm for row in report.rows))
    colours = {arm: COLOURS[i % len(COLOURS)] for i, arm in enumerate(arms)}
    titles = (
        f"Held-back accuracy, mean of {report.num_samples} samples, %",
        "Right rollouts in training, %, by generated tokens",
        "Reward that wrong candidates earned, %",
    )
    figure = make_subplots(
        rows=1, cols=3, subplot_titles=titles, horizontal_spacing=0.07, column_widths=[0.4, 0.4, 0.2]
    )
    for row in report.rows:
        figure.add_trace(_accuracy(row, colours[row.arm]), row=1, col=1)
    labels = [_label(row) for row in report.rows]
    start = [100 * report.start_sampled.mean] * len(labels)
    line = {"dash": "dot", "color": "#777777"}
    figure.add_scatter(x=labels, y=start, name="the start", mode="lines", line=line, row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    for name, steps in report.curves.items():
        colour = colours[name.rpartition(", seed ")[0]]
        x, y = [one.generated_tokens for one in steps], [100 * one.right_share for one in steps]
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", line={"color": colour}, row=1, col=2)
    for arm in arms:
        rows = [row for row in report.rows if row.arm == arm]
        share = rows[-1].wrong_reward_share
        bar = go.Bar(x=[arm], y=[None if share is None else 100 * share], marker={"color": colours[arm]})
        figure.add_trace(bar.update(showlegend=False), row=1, col=3)
    figure.update_layout(template="simple_white", width=1500, height=560, margin={"t": 60, "b": 110})
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page


def _accuracy(row: AblationRow, colour: str) -> go.Scatter:
    """Add one point; the point of all seeds is larger."""
    interval: Interval = row.sampled
    error = {
        "type": "data",
        "symmetric": False,
        "array": [100 * (interval.high - interval.mean)],
        "arrayminus": [100 * (interval.mean - interval.low)],
        "color": colour,
    }
    label = _label(row)
    marker = {"color": colour, "size": 13 if row.seed is None else 8}
    return go.Scatter(
        x=[label], y=[100 * interval.mean], error_y=error, mode="markers", marker=marker, name=label, showlegend=False
    )


def _label(row: AblationRow) -> str:
    return f"{row.arm}, all" if row.seed is None else f"{row.arm}, {row.seed}"
