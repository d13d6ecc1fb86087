"""The page's figures, built with Plotly; the page's script gives them the colours of its theme."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.intervals import Interval
from floe.cluster.messages import Outcome
from floe.cluster.report_page.draw_curves import draw_curves
from floe.cluster.report_page.figure_parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Figure,
    add_curve,
    add_stack,
    finished,
    new_plot,
    points_of,
    rounded,
    smoothing_note,
)
from floe.cluster.report_page.gpu_figures import gpu_figures
from floe.cluster.report_page.source_figures import source_figures
from floe.cluster.report_page.step_series import MAX_POINTS, StepSeries, bucketed
from floe.configs.schema import RunConfig

OUTCOME_COLOURS: Mapping[Outcome, str] = {
    Outcome.MATCH: GREEN,
    Outcome.MISMATCH: ORANGE,
    Outcome.RUNTIME_ERROR: RED,
    Outcome.SYNTAX_ERROR: "#a83279",
    Outcome.REJECTED: PURPLE,
    Outcome.NO_SQL: GREY,
    Outcome.TIMEOUT: BLUE,
    Outcome.KILLED: "#4f6fa8",
    Outcome.TOO_LARGE: "#5fb3cf",
    Outcome.NOT_EXECUTED: "#8fa876",
    Outcome.GOLD_FAILED: "#b9a98c",
    Outcome.INFRASTRUCTURE: "#6b6257",
}


def step_figures(series: StepSeries, config: RunConfig | None) -> list[Figure]:
    """Return a figure for each thing that is watched; a run without steps has none."""
    if not series.steps:
        return []
    kl_reason = "The KL term is not computed: algorithm.kl_coefficient is 0."
    if config is None or config.algorithm.kl_coefficient > 0:
        kl_reason = "The records have no KL divergence."
    limit = None if config is None else config.rollout.max_new_tokens
    return [
        _lines(series, "reward", "Reward and right answers", "Mean over the step's candidates, from 0 to 1.",
               {"reward_mean": ("reward", BLUE), "correct_share": ("share right", GREEN)}, "mean", None),
        _accuracy(series, config),
        _outcomes(series),
        _phases(series),
        _lines(series, "kl", "KL divergence to the reference (nats per token)",
               "Three estimates of the same: k3 is the one in the loss.",
               {"kl": ("k3", BLUE), "kl_k1": ("k1", ORANGE), "kl_k2": ("k2", GREY)}, "nats", None, kl_reason),
        _lines(series, "mismatch", "Mismatch of engine and learner (log probability per token)",
               "|log p of the engine - log p of the learner| before the update, on a logarithmic axis.",
               {"logprob_mismatch_mean": ("mean", BLUE), "logprob_mismatch_max": ("maximum", ORANGE)}, "nats", "log"),
        _staleness(series),
        _lengths(series, limit),
        _lines(series, "truncated", "Completions cut at the limit (%)", "Share that reached rollout.max_new_tokens.",
               {"truncated_share": ("truncated", ORANGE)}, "%", "percent"),
        _lines(series, "entropy", "Entropy while sampling (nats per token)",
               "An estimate from the sampled tokens: low means that the policy is sure of itself.",
               {"entropy_estimate": ("entropy", PURPLE)}, "nats", None),
        *_supervised(series),
        *draw_curves(series),
        *source_figures(series),
        *gpu_figures(series),
    ]  # fmt: skip


def _supervised(series: StepSeries) -> list[Figure]:
    if not series.has("supervised_loss"):
        return []
    about = "Mean cross-entropy of the drawn answers, without algorithm.supervised_coefficient."
    lines = {"supervised_loss": ("supervised term", BLUE)}
    return [_lines(series, "supervised", "Loss of the supervised term (nats per token)", about, lines, "nats", None)]


def policies_figure(report: EvaluationReport) -> Figure:
    """Return the accuracy of each policy of the before/after table with its interval."""
    figure = new_plot()
    measures: list[tuple[str, str, Callable[[Any], Interval | None]]] = [
        ("greedy", BLUE, lambda row: row.greedy),
        (f"mean of {report.num_samples}", ORANGE, lambda row: row.sampled),
        (f"pass@{report.num_samples}", GREEN, lambda row: row.pass_at_n),
    ]
    names = [html.escape(row.name, quote=False) for row in report.rows]  # Plotly would make a link of <a href>
    for name, colour, interval_of in measures:
        found = [interval_of(row) for row in report.rows]
        figure.add_bar(
            x=names,
            y=rounded([None if one is None else 100 * one.mean for one in found]),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rounded([None if one is None else 100 * (one.high - one.mean) for one in found]),
                "arrayminus": rounded([None if one is None else 100 * (one.mean - one.low) for one in found]),
                "color": GREY,
                "thickness": 1.2,
                "width": 3,
            },
            name=name,
            marker_color=colour,
        )
    figure.update_layout(barmode="group", bargap=0.35)
    figure.update_yaxes(title="% of questions", rangemode="tozero")
    caption = f"Greedy, sampled and best of {report.num_samples}, with 95 % intervals over questions."
    return finished("policies", "Execution accuracy (%)", caption, figure, None)


def _lines(
    series: StepSeries,
    name: str,
    title: str,
    caption: str,
    curves: Mapping[str, tuple[str, str]],
    unit: str,
    scale: str | None,
    missing: str = "The records do not have it.",
) -> Figure:
    """Draw lines; `curves` maps a metric to its label and colour; `scale` is `log`, `percent` or what fits."""
    shown = {metric: look for metric, look in curves.items() if series.has(metric)}
    if not shown:
        return Figure(name=name, title=title, caption=caption, plot=None, missing=missing)
    figure = new_plot()
    factor = 100 if scale == "percent" else 1
    for metric, (label, colour) in shown.items():
        add_curve(figure, series, [None if v is None else factor * v for v in series.column(metric)], label, colour)
    figure.update_yaxes(title=unit)
    if scale == "log":
        figure.update_yaxes(type="log", dtick=1, exponentformat="none", range=_decades(series, shown))
    else:
        figure.update_yaxes(rangemode="tozero")
    return finished(name, title, caption + smoothing_note(series), figure, series)


def _decades(series: StepSeries, metrics: Iterable[str]) -> list[float] | None:
    """Return the powers of ten around all numbers above 0."""
    values = [value for metric in metrics for value in series.column(metric) if value is not None and value > 0]
    return [floor(log10(min(values))), ceil(log10(max(values)) + 1e-9)] if values else None


def _accuracy(series: StepSeries, config: RunConfig | None) -> Figure:
    title, caption = "Accuracy on held-back questions (%)", "Greedy answers to a fixed sample of the split tune."
    at = [i for i, value in enumerate(series.column("eval_greedy")) if value is not None]
    if not at:
        off = config is not None and config.evaluation.every_steps == 0
        missing = (
            "The run was not evaluated while it trained: evaluation.every_steps is 0."
            if off
            else "No evaluation during training has ended yet."
        )
        return Figure(name="accuracy", title=title, caption=caption, plot=None, missing=missing)
    figure = new_plot()
    x = [series.steps[i] for i in at]
    for metric, label, colour in (("eval_executes", "runs", GREY), ("eval_greedy", "right", GREEN)):
        y = [series.column(metric)[i] for i in at]
        percent = rounded([None if value is None else 100 * value for value in y])
        figure.add_scatter(x=x, y=percent, name=label, mode="lines+markers", line={"color": colour, "width": 2})
    best = [i for i in at if series.column("eval_is_best")[i]]
    if best:
        figure.add_scatter(
            x=[series.steps[best[-1]]],
            y=rounded([100 * (series.column("eval_greedy")[best[-1]] or 0)]),
            name="best",
            mode="markers",
            marker={"symbol": "star", "size": 13, "color": ORANGE},
        )
    figure.update_yaxes(title="% of questions", range=[0, 100])
    num_asked = series.column("eval_num_questions")[at[-1]]
    return finished("accuracy", title, f"{caption} {int(num_asked or 0)} of them have a verdict.", figure, series)


def _outcomes(series: StepSeries) -> Figure:
    title, caption = "Outcomes of the candidates (%)", "What became of each candidate's SQL when it was run."
    counts = {o: series.column(f"outcome_{o.value}") for o in Outcome if any(series.column(f"outcome_{o.value}"))}
    if not counts:
        missing = "The records do not count outcomes."
        return Figure(name="outcomes", title=title, caption=caption, plot=None, missing=missing, is_wide=True)
    totals = [sum(column[i] or 0 for column in counts.values()) for i in range(len(series.steps))]
    figure = new_plot()
    for outcome, column in counts.items():
        shares = [100 * (value or 0) / total if total else None for value, total in zip(column, totals, strict=True)]
        add_stack(figure, series, shares, outcome.value.replace("_", " "), OUTCOME_COLOURS[outcome])
    figure.update_yaxes(title="% of candidates", range=[0, 100])
    return finished("outcomes", title, caption, figure, series, is_wide=True)


def _phases(series: StepSeries) -> Figure:
    title = "Time of a step (seconds)"
    caption = (
        "The bar is the learner's time: it waits for groups, learns, and hands on the adapter. Evaluation comes on "
        "top, and other is mostly the wait for its turn. Lines: generation and scoring, which may overlap with it."
    )
    parts = {
        "learner_wait_s": ("waits for groups", BLUE), "learn_s": ("learns", ORANGE), "sync_s": ("adapter", PURPLE),
    }  # fmt: skip
    if not series.has("step_s"):
        missing = "The records have no times."
        return Figure(name="phases", title=title, caption=caption, plot=None, missing=missing, is_wide=True)
    figure = new_plot()
    for metric, (label, colour) in parts.items():
        add_stack(figure, series, series.column(metric), label, colour)
    columns = [series.column(metric) for metric in ("step_s", *parts)]
    rest = [
        max(0.0, (step_s or 0) - sum(part or 0 for part in others)) for step_s, *others in zip(*columns, strict=True)
    ]
    add_stack(figure, series, rest, "other", GREY)
    if series.has("eval_seconds"):
        add_stack(figure, series, series.column("eval_seconds"), "evaluation", "#c9b458")
    for metric, label, colour in (("rollout_s", "generation", RED), ("reward_s", "scoring", GREEN)):
        y = rounded(bucketed(series.column(metric), MAX_POINTS))
        line = {"color": colour, "width": 1.5, "dash": "dot"}
        figure.add_scatter(x=points_of(series), y=y, name=label, mode="lines", line=line)
    figure.update_yaxes(title="seconds", rangemode="tozero")
    return finished("phases", title, caption, figure, series, is_wide=True)


def _staleness(series: StepSeries) -> Figure:
    title = "Staleness of the groups (%)"
    caption = "Steps by which a group's adapter lagged behind the learner's; 0 is on-policy."
    longest = max((len(counts) for counts in series.groups_by_staleness), default=0)
    if not longest:
        missing = "The records do not count groups by staleness."
        return Figure(name="staleness", title=title, caption=caption, plot=None, missing=missing)
    figure = new_plot()
    shades = [GREEN, ORANGE, RED, PURPLE, BLUE, GREY]
    for lag in range(longest):
        shares = [100 * _share(counts, lag) for counts in series.groups_by_staleness]
        add_stack(figure, series, shares, "1 step" if lag == 1 else f"{lag} steps", shades[min(lag, len(shades) - 1)])
    figure.update_yaxes(title="% of groups", range=[0, 100])
    return finished("staleness", title, caption, figure, series)


def _share(counts: Sequence[int], position: int) -> float:
    return counts[position] / sum(counts) if position < len(counts) and any(counts) else 0.0


def _lengths(series: StepSeries, limit: int | None) -> Figure:
    curves = {"mean_completion_tokens": ("mean", BLUE)}
    caption = "Mean over the step's candidates." + ("" if limit is None else f" The limit is {limit} tokens.")
    return _lines(series, "lengths", "Length of the completions (tokens)", caption, curves, "tokens", None)
