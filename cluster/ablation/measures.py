"""Measures an arm's reward from its rollouts (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from floe.cluster.evaluation.before_after_table import PolicyAnswers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One candidate of training; `is_right` by execution, under the run's semantics."""

    step: int
    reward: float
    is_right: bool
    executes: bool
    in_form: bool  # one closed thought, then some SQL
    truncated: bool
    num_tokens: int
    execution_s: float  # seconds of CPU time; 0 where nothing was run or the verdict was known
    design_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What one step's candidates were and earned: means and shares over them."""

    step: int
    generated_tokens: int  # in all steps up to this one
    reward: float
    right_share: float
    executes_share: float
    form_share: float
    truncated_share: float
    mean_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmMeasures:
    """One arm with one seed. Shares lie between 0 and 1; None where nothing defines the number."""

    arm: str
    seed: int
    start: PolicyAnswers
    control: PolicyAnswers | None  # the start, sampled at the trained policy's entropy; None where it was not asked for
    trained: PolicyAnswers
    steps: tuple[StepOutcome, ...]
    constant_rewards: dict[str, float]  # what the gold and policies that look at no question earn under this reward
    reward_correlation: float | None  # Pearson's, of reward and correctness over all candidates
    wrong_reward_share: float | None  # share of all reward above 0 that wrong candidates earned
    score_s: float  # a candidate's mean execution, where it was run, and the design's mean work
    equal_group_share: float  # groups whose rewards are all equal


def correlation(candidates: Sequence[Rollout]) -> float | None:
    """Return Pearson's correlation of reward and correctness; None where one of them never changes."""
    rewards = np.array([one.reward for one in candidates])
    right = np.array([one.is_right for one in candidates], float)
    if len(candidates) < 2 or np.ptp(rewards) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(rewards, right)[0, 1])


def wrong_share(candidates: Sequence[Rollout]) -> float | None:
    """Return the share of the reward above 0; None where there is none."""
    paid = [(max(0.0, one.reward), one.is_right) for one in candidates]
    total = sum(reward for reward, _ in paid)
    return sum(reward for reward, is_right in paid if not is_right) / total if total > 0 else None


def score_seconds(candidates: Sequence[Rollout]) -> float:
    run = [one.execution_s for one in candidates if one.execution_s > 0]
    design = [one.design_s for one in candidates]
    return (float(np.mean(run)) if run else 0.0) + (float(np.mean(design)) if design else 0.0)


def steps_of(candidates: Sequence[Rollout]) -> tuple[StepOutcome, ...]:
    found, generated = [], 0
    for step in sorted({one.step for one in candidates}):
        of_step = [one for one in candidates if one.step == step]
        num_tokens = sum(one.num_tokens for one in of_step)
        generated += num_tokens
        found.append(
            StepOutcome(
                step=step,
                generated_tokens=generated,
                reward=sum(one.reward for one in of_step) / len(of_step),
                right_share=sum(one.is_right for one in of_step) / len(of_step),
                executes_share=sum(one.executes for one in of_step) / len(of_step),
                form_share=sum(one.in_form for one in of_step) / len(of_step),
                truncated_share=sum(one.truncated for one in of_step) / len(of_step),
                mean_tokens=num_tokens / len(of_step),
            )
        )
    return tuple(found)


def equal_share(groups: Sequence[Sequence[Rollout]]) -> float:
    """Return the share of groups whose rewards are all equal."""
    return float(np.mean([len({one.reward for one in group}) == 1 for group in groups]))


def mean_outcome(steps: Sequence[StepOutcome]) -> StepOutcome:
    """Return the means over steps, of several runs perhaps; its step and tokens are the last one's."""

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(steps)

    return StepOutcome(
        step=steps[-1].step,
        generated_tokens=steps[-1].generated_tokens,
        reward=mean(one.reward for one in steps),
        right_share=mean(one.right_share for one in steps),
        executes_share=mean(one.executes_share for one in steps),
        form_share=mean(one.form_share for one in steps),
        truncated_share=mean(one.truncated_share for one in steps),
        mean_tokens=mean(one.mean_tokens for one in steps),
    )
