"""The part of a run's rollouts that its page shows, read without reading the whole file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from floe.actors.databases.connections import bound, reading
from floe.cluster.messages import Outcome
from floe.cluster.report_page.rollout_rows import RolloutRows
from floe.cluster.report_page.rollout_sample import MAX_CANDIDATES, sampled_groups, sampled_steps
from floe.cluster.report_page.same_sql import GroupRows
from floe.cluster.run_folder.file_names import ROLLOUTS_FILE
from floe.configs.errors import UserError

READ_LIMIT_S = 300.0  # CPU seconds; the rollouts of a long run take some
MAX_MEMORY_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRollouts:
    """Groups with their rank in the sample, counts of every step's outcomes, and a note on how they were sampled."""

    note: str
    groups: Sequence[tuple[GroupRows, int]] = ()
    outcomes: Mapping[int, Mapping[Outcome, int]] = field(default_factory=dict)  # by step


def sampled_rollouts(run_dir: Path) -> SampledRollouts:
    """Return the sample; the note says why there is none."""
    path = run_dir / ROLLOUTS_FILE
    if not path.is_file():
        return SampledRollouts(note="The run's folder has no rollouts.sqlite: no step was done.")
    try:
        with reading(path) as connection:
            ends_at_s = time.thread_time() + READ_LIMIT_S
            bound(connection, lambda: time.thread_time() >= ends_at_s, MAX_MEMORY_BYTES)
            return _sampled(RolloutRows(connection))
    except (UserError, MemoryError, ValueError, TypeError) as fault:
        return SampledRollouts(note=f"The rollouts can't be read: {fault}")


def _sampled(rows: RolloutRows) -> SampledRollouts:
    outcomes = rows.outcomes()
    if not outcomes:
        return SampledRollouts(note="No rollout is recorded: no step was done.")
    counts = {step: sum(of_step.values()) for step, of_step in outcomes.items()}
    steps = sampled_steps(counts)
    is_all = sum(counts.values()) <= MAX_CANDIDATES
    groups: list[tuple[GroupRows, int]] = []
    for step in steps:
        room = counts[step] if is_all else MAX_CANDIDATES // len(steps)
        ranks = {one.outline.group_index: one.rank for one in sampled_groups(rows.outlines(step), room)}
        groups += [(group, ranks[group.group_index]) for group in rows.groups(step, list(ranks))]
    return SampledRollouts(note=_sample_note(groups, counts, steps, is_all), groups=groups, outcomes=outcomes)


def _sample_note(
    groups: Sequence[tuple[GroupRows, int]], counts: Mapping[int, int], steps: Sequence[int], is_all: bool
) -> str:
    num_candidates = sum(len(one.candidates) for one, _ in groups)
    if is_all:
        note = f"All {len(groups)} groups of {len(steps)} steps, {num_candidates:,} candidates."
    else:
        which = "all" if len(steps) == len(counts) else "the first and last three and evenly spaced ones between"
        note = (
            f"A sample: {len(groups)} groups, {num_candidates:,} of {sum(counts.values()):,} candidates, from "
            f"{len(steps)} of {len(counts)} steps ({which}). In each step groups that are all right, partly right, "
            "none right, none running take turns; within these a fixed hash of the question decides, so that the same "
            "ones return."
        )
    if min(counts) > 1:
        note += f" Steps before {min(counts)} made room in rollouts.sqlite (run.max_rollout_log_bytes)."
    return note
