"""The view of a run for a person: a line per event, or one view of where it is (pure: numbers to text)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.text import Text

from floe.cluster.health.finding import HealthFinding
from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.time_plan.durations import duration
from floe.cluster.tracking.gpu_step import GpuStep, GpuUse
from floe.cluster.tracking.source_metrics import SourceMetrics
from floe.cluster.tracking.step_metrics import InterimResult, StepMetrics
from floe.configs.sections.health_section import HealthAction

NUM_NOTES = 4  # at the head of the view
BAR_COLUMNS = 20
NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A run as it is now."""

    phase: str
    phase_s: float  # seconds since it began
    run_s: float
    step: int  # the step at work, counted from 1; 0 outside of the steps
    num_steps: int
    left_s: float | None  # seconds until the run ends, without a plan until the last step does; None: not known
    last: StepMetrics | None  # of the step that ended last
    evaluated: InterimResult | None  # the last one
    best: InterimResult | None
    notes: tuple[str, ...]  # the last few, the newest last
    part: str = ""  # how far a long phase is, or what is done between two steps
    gpus: GpuStep | None = None  # in the step that ended last
    finding: HealthFinding | None = None  # the health guard's last one


def view(run: Watched) -> RenderableType:
    """Return notes, a rule, the phase with its bar, and the last step's and the last evaluation's figures."""
    # A narrow terminal breaks columns between two figures.
    parts: list[RenderableType] = [note_line(text) for text in run.notes]
    parts += [Rule(style="dim"), _place(run)]
    if run.last is not None:
        rows = (_rewards(run.last), _learning(run.last), _times(run.last))
        parts += [Columns(row, padding=(0, 3)) for row in rows]
        parts += [Columns(_source(one), padding=(0, 3)) for one in run.last.by_source]
        if run.last.draw is not None:
            parts.append(Columns(_draw(run.last.draw), padding=(0, 3)))
    if run.gpus is not None:
        parts += [Columns(row, padding=(0, 3)) for row in _gpus(run.gpus) if row]
    if run.evaluated is not None:
        parts.append(_accuracy(run.evaluated, run.best))
    if run.finding is not None:
        parts.append(_figure("health", f"step {run.finding.step}: {run.finding.detector} ({run.finding.action})"))
    return Group(*parts)


def phase_line(name: str, after_s: float) -> Text:
    return Text.assemble((name, "bold cyan"), f"  (after {duration(after_s)})")


def note_line(text: str) -> Text:
    return Text(f"  {text}")


def step_line(record: StepMetrics, num_steps: int, left_s: float) -> Text:
    return Text.assemble(
        (f"  step {record.step:>{len(str(num_steps))}}/{num_steps}", "bold"),
        f"  reward {number(record.reward_mean)}{_rewards_by_source(record)}",
        f"  correct {percent(record.correct_share):>7}",
        f"  {number(record.tokens_per_s, 0):>6} tokens/s  {record.step_s:5.1f} s",
        (f"  {duration(left_s)} left", "dim"),
    )


def batch_part(number: int, max_number: int, left_s: float) -> str:
    return f"batch {number} of at most {max_number}, about {duration(left_s)} left"


def answers_part(num_answered: int, num_asked: int) -> str:
    return f"answers {num_answered} of {num_asked}"


def evaluation_note(result: InterimResult) -> str:
    shown = f"{percent(result.greedy)} of {result.num_questions} held-back questions right"
    if result.by_source:
        shown += f" ({_accuracies(result)})"
    return f"version {result.adapter_version}: {shown}{', best so far' if result.is_best else ''}"


def finding_note(found: HealthFinding) -> str:
    """Return the line for a finding of the health guard."""
    ends = {HealthAction.STOP: "; the run stops", HealthAction.ROLL_BACK: "; the run goes back to its best version"}
    return f"warning: step {found.step}: {found.text}{ends.get(found.action, '')}"


def _place(run: Watched) -> RenderableType:
    """Return the phase, its position, and its time."""
    row: list[RenderableType] = [Text(run.phase or "start", "bold cyan")]
    if run.step:
        bar = ProgressBar(total=run.num_steps, completed=run.step - 1, width=BAR_COLUMNS)
        row += [Text(f"step {run.step} of {run.num_steps}", "bold"), bar]
    else:
        row.append(Text(f"for {duration(run.phase_s)}"))
    if run.part:
        row.append(Text(run.part))
    if run.left_s is not None:
        row.append(Text(f"{duration(run.left_s)} left{'' if run.step else ' in all'}"))
    row.append(Text(f"running {duration(run.run_s)}", "dim"))
    return Columns(row, padding=(0, 2))


def _rewards(record: StepMetrics) -> list[Text]:
    return [
        _figure("reward", number(record.reward_mean)),
        _figure("correct", percent(record.correct_share)),
        _figure("executes", percent(record.executes_share)),
        _figure("equal rewards", percent(record.zero_variance_share)),  # share of the groups
    ]


def _source(part: SourceMetrics) -> list[Text]:
    return [
        Text(part.name, "bold"),
        _figure("reward", number(part.reward_mean)),
        _figure("correct", percent(part.correct_share)),
        _figure("equal rewards", percent(part.zero_variance_share)),
        _figure("questions", str(part.num_questions)),
    ]


def _rewards_by_source(record: StepMetrics) -> str:
    if not record.by_source:
        return ""
    return f" ({', '.join(f'{one.name} {number(one.reward_mean)}' for one in record.by_source)})"


def _accuracies(result: InterimResult) -> str:
    return ", ".join(f"{one.name} {percent(one.greedy)} of {one.num_questions}" for one in result.by_source)


def _learning(record: StepMetrics) -> list[Text]:
    return [
        _figure("KL", number(record.kl, 4)),
        _figure("gradient norm", number(record.grad_norm)),
        _figure("tokens/s", number(record.tokens_per_s, 0)),
    ]


def _times(record: StepMetrics) -> list[Text]:
    """Return the times. Phases overlap: they don't add up to the step."""
    times = {
        f"step {record.step} took": record.step_s,
        "rollout": record.rollout_s,
        "reward": record.reward_s,
        "learn": record.learn_s,
        "sync": record.sync_s,
    }
    if record.handover_s:  # there is none without a shared device
        times["handover"] = record.handover_s
    return [_figure(name, f"{number(seconds, 1)} s") for name, seconds in times.items()]


def _gpus(step: GpuStep) -> list[list[Text]]:
    """A row for the roles, with the share of the time that their cards were busy, and one for the phases."""
    roles = {"GPU": next(iter(step.by_role.values()))} if step.is_shared else _named_roles(step)
    phases = [_figure(f"GPU, {name}", f"{_gib(use.memory_bytes)} GiB") for name, use in step.by_phase.items()]
    return [[_figure(name, _card(use)) for name, use in roles.items()], phases]


def _named_roles(step: GpuStep) -> dict[str, GpuUse]:
    return {f"GPU of {role}": use for role, use in step.by_role.items()}


def _card(use: GpuUse) -> str:
    """Most memory in use, and how busy."""
    shown = f"{_gib(use.memory_bytes)} of {_gib(use.total_bytes)} GiB"
    return shown if use.busy_share is None else f"{shown}, busy {percent(use.busy_share)}"


def _draw(draw: DrawFigures) -> list[Text]:
    mixed = f"{percent(draw.mixed_share)}, {percent(draw.mixed_share_uniform)} expected of a uniform draw"
    sizes = f"{draw.smallest_group} to {draw.largest_group}"
    return [
        _figure("right and wrong", mixed),  # share of the groups
        *([] if draw.smallest_group == draw.largest_group else [_figure("groups of", sizes)]),
        _figure("never drawn", str(draw.num_never_drawn)),
    ]


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f}"


def _accuracy(last: InterimResult, best: InterimResult | None) -> Text:
    shown = f"{percent(last.greedy)} of {last.num_questions} right with version {last.adapter_version}"
    if best is not None and best.adapter_version != last.adapter_version:
        shown += f", best {percent(best.greedy)} with version {best.adapter_version}"
    if last.by_source:
        shown += f" ({_accuracies(last)})"
    return _figure("held back", shown)


def _figure(name: str, shown: str) -> Text:
    return Text.assemble((f"{name} ", "dim"), shown)


def number(value: float | None, num_decimals: int = 3) -> str:
    """Return the number as text, a dash for None."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{num_decimals}f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else NOTHING
