"""The plot of an ablation, as one HTML file without a network."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from floe.cluster.ablation.measures import StepOutcome
from floe.cluster.ablation.report import AblationReport, AblationRow
from floe.cluster.ablation.tables import GOLD
from floe.cluster.evaluation.intervals import Interval

COLOURS = ("#3f6fb5", "#c8703a", "#4f8f5b", "#8a5fa8", "#b5483f", "#7a7a7a", "#3a9a9a", "#b59a3f")


def ablation_page(report: AblationReport) -> str:
    """Return a page of what the policies got right, what their replies became, and what the rewards paid for."""
    arms = list(dict.fromkeys(row.arm for row in report.rows))
    colours = {arm: COLOURS[i % len(COLOURS)] for i, arm in enumerate(arms)}
    titles = (
        f"Held-back accuracy, mean of {report.num_samples} samples, %",
        "Right rollouts in training, %, by generated tokens",
        "Reward that wrong candidates earned, %",
        "Tokens of a reply, by generated tokens",
        "Replies in form, %, by generated tokens",
        "Reward as a share of the gold's, %: last steps (full), best constant policy (hatched)",
    )
    figure = make_subplots(
        rows=2, cols=3, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.16,
        column_widths=[0.38, 0.38, 0.24],
    )  # fmt: skip
    for row in report.rows:
        figure.add_trace(_accuracy(row, colours[row.arm]), row=1, col=1)
    labels = [_label(row) for row in report.rows]
    start = [100 * report.start_sampled.mean] * len(labels)
    line = {"dash": "dot", "color": "#777777"}
    figure.add_scatter(x=labels, y=start, name="the start", mode="lines", line=line, row=1, col=1)
    for name, steps in report.curves.items():
        _add_curves(figure, name, steps, colours[name.rpartition(", seed ")[0]])
    for row in report.summary_rows:
        _add_bars(figure, row, colours[row.arm])
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(template="simple_white", width=1600, height=980, margin={"t": 60, "b": 110})
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page


def _add_curves(figure: go.Figure, name: str, steps: Sequence[StepOutcome], colour: str) -> None:
    x = [one.generated_tokens for one in steps]
    curves = (
        (1, 2, [100 * one.right_share for one in steps]),
        (2, 1, [one.mean_tokens for one in steps]),
        (2, 2, [100 * one.form_share for one in steps]),
    )
    for row, column, y in curves:
        line = go.Scatter(x=x, y=y, name=name, mode="lines+markers", line={"color": colour}, legendgroup=name)
        figure.add_trace(line.update(showlegend=column == 2 and row == 1), row=row, col=column)


def _add_bars(figure: go.Figure, row: AblationRow, colour: str) -> None:
    """Add the reward of wrong candidates, and the rewards of the last steps and of the best constant policy."""
    wrong = None if row.wrong_reward_share is None else 100 * row.wrong_reward_share
    figure.add_trace(go.Bar(x=[row.arm], y=[wrong], marker={"color": colour}, showlegend=False), row=1, col=3)
    gold, others = (
        row.constant_rewards.get(GOLD),
        [value for name, value in row.constant_rewards.items() if name != GOLD],
    )
    if not gold or not others:
        return
    for name, value, pattern in (("last steps", row.last_steps.reward, ""), ("constant", max(others), "/")):
        marker = {"color": colour, "pattern": {"shape": pattern}}
        bar = go.Bar(x=[[row.arm], [name]], y=[100 * value / gold], marker=marker, showlegend=False)
        figure.add_trace(bar, row=2, col=3)


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
