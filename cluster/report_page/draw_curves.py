"""Curves of a draw by pass rates: what it was expected to bring, and what it brought (pure but for Plotly)."""

from __future__ import annotations

from collections.abc import Mapping

from floe.cluster.report_page.figure_parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Figure,
    add_curve,
    finished,
    new_plot,
    smoothing_note,
)
from floe.cluster.report_page.step_series import StepSeries

Curves = Mapping[str, tuple[str, str]]  # metric: label and colour


def draw_curves(series: StepSeries) -> list[Figure]:
    """Return the figures of a run that estimates pass rates; none of another run."""
    found = [
        _curves(series, "draw-mixed", "Groups with right and wrong candidates (%)",
                "Seen, as the posterior expected of the drawn questions, and as it expects of a uniform draw.",
                {"draw_mixed_share": ("seen", GREEN), "draw_mixed_share_expected": ("expected", BLUE),
                 "draw_mixed_share_uniform": ("uniform", GREY)}, "% of groups", 100),
        _curves(series, "draw-rates", "Pass rate of the drawn questions (%)",
                "Predicted before they were asked, seen, and the mean difference of a question.",
                {"draw_pass_rate_predicted": ("predicted", BLUE), "draw_pass_rate_seen": ("seen", GREEN),
                 "draw_pass_rate_error": ("difference", ORANGE)}, "%", 100),
        _curves(series, "draw-never", "Questions that were never drawn", "Training questions that no step has asked.",
                {"draw_num_never_drawn": ("never drawn", GREY)}, "questions", 1),
        _sizes(series),
    ]  # fmt: skip
    return [figure for figure in found if figure is not None]


def _sizes(series: StepSeries) -> Figure | None:
    smallest, largest = (series.column(f"draw_{name}_group") for name in ("smallest", "largest"))
    if list(smallest) == list(largest):
        return None
    look = {"draw_largest_group": ("largest", BLUE), "draw_smallest_group": ("smallest", GREY)}
    caption = "The smallest and the largest group of the step."
    return _curves(series, "draw-sizes", "Candidates of a group", caption, look, "candidates", 1)


def _curves(
    series: StepSeries, name: str, title: str, caption: str, curves: Curves, unit: str, factor: int
) -> Figure | None:
    shown = {metric: look for metric, look in curves.items() if series.has(metric)}
    if not shown:
        return None
    figure = new_plot()
    for metric, (label, colour) in shown.items():
        values = [None if value is None else factor * value for value in series.column(metric)]
        add_curve(figure, series, values, label, colour)
    figure.update_yaxes(title=unit, rangemode="tozero")
    return finished(name, title, caption + smoothing_note(series), figure, series)
