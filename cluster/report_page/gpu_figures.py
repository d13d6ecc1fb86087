"""The page's figures of a run's cards; a run without readings of any has none."""

from __future__ import annotations

from collections.abc import Mapping

from floe.cluster.report_page.figure_parts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Figure,
    add_curve,
    finished,
    new_plot,
    smoothing_note,
)
from floe.cluster.report_page.step_series import Column, StepSeries
from floe.cluster.tracking.gpu_step import GPU_ROLES, GpuPhase

GIB = 2**30
ROLE_COLOURS: Mapping[str, str] = dict(zip(GPU_ROLES, (BLUE, ORANGE), strict=True))
PHASE_COLOURS: Mapping[GpuPhase, str] = {GpuPhase.GENERATE: BLUE, GpuPhase.HANDOVER: PURPLE, GpuPhase.LEARN: ORANGE}


def gpu_figures(series: StepSeries) -> list[Figure]:
    if not any(name.startswith("gpu_") for name in series.columns):
        return []
    return [_memory(series), _busy(series)]


def _memory(series: StepSeries) -> Figure:
    title, caption = "Memory of the GPUs (GiB)", "Most memory that was in use on the fullest card, by all processes."
    used, colours = _used(series)
    curves = {label: (column, colours[label]) for label, column in used.items()}
    if series.has("gpu_learner_allocated_bytes"):
        curves["PyTorch's in the update"] = (series.column("gpu_learner_allocated_bytes"), GREEN)
    sizes = [series.column(f"gpu_{role}_total_bytes") for role in GPU_ROLES if series.has(f"gpu_{role}_total_bytes")]
    if sizes:
        curves["size of the card"] = (sizes[0], GREY)
    figure = new_plot()
    for label, (column, colour) in curves.items():
        add_curve(figure, series, [None if value is None else value / GIB for value in column], label, colour)
    figure.update_yaxes(title="GiB", rangemode="tozero")
    return finished("gpu_memory", title, caption + smoothing_note(series), figure, series)


def _used(series: StepSeries) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the curves of what was in use, and their colours: by role, or by phase of what both roles share."""
    by_role = {role: series.column(f"gpu_{role}_memory_bytes") for role in GPU_ROLES}
    known = {role: column for role, column in by_role.items() if any(value is not None for value in column)}
    if len(known) == len(GPU_ROLES) and len(set(known.values())) == 1:
        phases = {phase.value: series.column(f"gpu_{phase}_memory_bytes") for phase in GpuPhase}
        return phases, {phase.value: colour for phase, colour in PHASE_COLOURS.items()}
    return known, dict(ROLE_COLOURS)


def _busy(series: StepSeries) -> Figure:
    title = "How busy the GPUs were (%)"
    caption = "Share of a step in which some kernel ran on the cards of the role's actors, the mean of all readings."
    shown = {role: colour for role, colour in ROLE_COLOURS.items() if series.has(f"gpu_{role}_busy_share")}
    if not shown:
        missing = "The cards don't tell how busy they are."
        return Figure(name="gpu_busy", title=title, caption=caption, plot=None, missing=missing)
    figure = new_plot()
    for role, colour in shown.items():
        add_curve(figure, series, _percent(series.column(f"gpu_{role}_busy_share")), role, colour)
    figure.update_yaxes(title="% of the time", range=[0, 100])
    return finished("gpu_busy", title, caption + smoothing_note(series), figure, series)


def _percent(column: Column) -> list[float | None]:
    return [None if value is None else 100 * value for value in column]
