"""Metrics of one training step, as one flat record (pure)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from floe.cluster.loop.adapter_broadcast import Published
from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.loop.step_clock import StepTimings
from floe.cluster.messages import ScoredGroup, StepReport
from floe.cluster.tracking.hollow_rewards import constant_reward_share, empty_reward_share
from floe.cluster.tracking.source_metrics import (
    SourceAccuracy,
    SourceMetrics,
    correct_share,
    executes_share,
    mean,
    reward_mean,
    source_metrics,
    zero_variance_share,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One record of `metrics.jsonl`. A share or mean of nothing is NaN; seconds end in `_s`."""

    step: int
    reward_mean: float
    correct_share: float
    executes_share: float
    zero_variance_share: float
    dropped_group_share: float
    kl: float | None
    kl_k1: float | None
    kl_k2: float | None
    loss: float
    grad_norm: float
    learning_rate: float
    ratio_clip_share: float
    importance_truncated_share: float
    logprob_mismatch_mean: float
    logprob_mismatch_max: float
    effective_sample_size: float
    num_nan_logprobs: int
    adapter_version: int
    num_groups: int
    refill_rounds: int
    replaced_actors: int
    ready_steps: int
    staleness: int  # the most steps that a group's adapter lagged behind the learner's
    groups_by_staleness: tuple[int, ...]  # that lagged 0, 1, ... steps
    trained_groups: int
    generated_tokens: int
    trained_tokens: int
    prompt_tokens: int
    cached_prompt_share: float
    mean_completion_tokens: float
    truncated_share: float
    entropy_estimate: float
    rollout_s: float
    reward_s: float
    learn_s: float
    sync_s: float
    handover_s: float
    step_s: float
    learner_wait_s: float
    rollouts_wait_s: float
    sync_bytes: int
    sync_export_s: float
    sync_install_s: float
    sync_canary_s: float
    sync_canary_kl: float
    tokens_per_s: float
    constant_reward_share: float = math.nan  # of the rewards above 0; `cluster/tracking/hollow_rewards.py`
    empty_reward_share: float = math.nan
    supervised_loss: float | None = None  # without a supervised term None, and not in the record
    by_source: tuple[SourceMetrics, ...] = ()  # of a mixture, by name; empty without one
    draw: DrawFigures | None = None  # of a run that estimates pass rates


@dataclass(frozen=True, slots=True, kw_only=True)
class InterimResult:
    """Result of an adapter on the held-back sample: shares of the questions that have a verdict, NaN when none has."""

    adapter_version: int
    greedy: float
    executes: float
    num_questions: int
    seconds: float
    is_best: bool  # among the versions so far; of equal ones the earlier is the best
    by_source: tuple[SourceAccuracy, ...] = ()  # of a mixture, by name; empty without one


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleMemory:
    """Resident bytes on the driver's node, each process with its children; None for a role without a process there.

    Pages of the object store that a process has touched count for each such process.
    """

    driver_bytes: int | None
    rollout_bytes: int | None
    reward_bytes: int | None
    learner_bytes: int | None


def step_metrics(
    groups: tuple[ScoredGroup, ...],
    report: StepReport,
    timings: StepTimings,
    *,
    num_dropped_groups: int,
    refill_rounds: int,
    replaced_actors: int,
    ready_steps: int,
    published: Published,
    sources: Sequence[str] = (),
    by_terms: bool = False,
    draw: DrawFigures | None = None,
) -> StepMetrics:
    """Return the record of a step that rolled out `groups`; `num_dropped_groups` had no verdict and were not used.

    `groups` are all that were sampled: those of refill rounds too, and those without a gradient. Shares of rewards,
    correct and executing ones are over the candidates that carry a reward. `correct` is the outcome `match`, never a
    reward; NaN under a reward design that runs nothing. `adapter_version` is the one that `published` brought. A prompt
    is counted once per group; `cached_prompt_share` is over all candidates' prompt tokens. `replaced_actors` are the
    rollout actors lost since the previous record, `ready_steps` the generated steps that waited behind this one.

    `tokens_per_s` is generated tokens over `rollout_s`. Each of `sources`, the names of a mixture's, has its part of
    the record, asked in this step or not. `by_terms` is that of `zero_variance_share`.
    """
    completions = [completion for group in groups for completion in group.rollout.completions]
    num_tokens = [len(completion.token_ids) for completion in completions]
    by_staleness = _groups_by_staleness(groups, report.step)
    return StepMetrics(
        **{name: getattr(report, name) for name in _SHARED_FIELDS},
        **asdict(timings),
        reward_mean=reward_mean(groups),
        correct_share=correct_share(groups),
        executes_share=executes_share(groups),
        zero_variance_share=zero_variance_share(groups, by_terms),
        dropped_group_share=num_dropped_groups / len(groups) if groups else math.nan,
        adapter_version=published.manifest.version,
        num_groups=len(groups),
        refill_rounds=refill_rounds,
        replaced_actors=replaced_actors,
        ready_steps=ready_steps,
        staleness=len(by_staleness) - 1,
        groups_by_staleness=by_staleness,
        generated_tokens=sum(num_tokens),
        prompt_tokens=sum(len(group.rollout.prompt_token_ids) for group in groups),
        cached_prompt_share=_cached_prompt_share(groups),
        mean_completion_tokens=mean(num_tokens),
        truncated_share=mean([completion.truncated for completion in completions]),
        entropy_estimate=entropy_estimate(groups),
        sync_bytes=published.manifest.num_bytes,
        sync_export_s=published.export_s,
        sync_install_s=published.install_s,
        sync_canary_s=published.canary_s,
        sync_canary_kl=published.canary_kl,
        tokens_per_s=sum(num_tokens) / timings.rollout_s if timings.rollout_s > 0 else math.nan,
        constant_reward_share=constant_reward_share(groups),
        empty_reward_share=empty_reward_share(groups),
        by_source=source_metrics(groups, sources, by_terms),
        draw=draw,
    )


_SHARED_FIELDS = tuple({f.name for f in fields(StepReport)} & {f.name for f in fields(StepMetrics)})


def entropy_estimate(groups: tuple[ScoredGroup, ...]) -> float:
    """Return nats per token at the sampling temperature: the mean of `-log p` over the sampled tokens.

    The expectation of that mean is the entropy. Tokens for which the engine gave no number are left out; NaN when there
    are none.
    """
    logprobs = [x for group in groups for completion in group.rollout.completions for x in completion.logprobs]
    return -mean([x for x in logprobs if math.isfinite(x)])


def _cached_prompt_share(groups: tuple[ScoredGroup, ...]) -> float:
    """Return the share of all candidates' prompt tokens that no engine had to compute; NaN where none counts."""
    counted = [group.rollout for group in groups if group.rollout.num_computed_prompt_tokens is not None]
    num_tokens = sum(len(rollout.prompt_token_ids) * len(rollout.completions) for rollout in counted)
    num_computed = sum(rollout.num_computed_prompt_tokens or 0 for rollout in counted)
    return 1 - num_computed / num_tokens if num_tokens else math.nan


def _groups_by_staleness(groups: tuple[ScoredGroup, ...], step: int) -> tuple[int, ...]:
    """Return the groups that lagged 0, 1, ... steps, [largest staleness + 1], by the oldest adapter of each."""
    lags = Counter(
        step - 1 - min(completion.oldest_adapter_version for completion in group.rollout.completions)
        for group in groups
    )
    return tuple(lags[lag] for lag in range(max(lags, default=-1) + 1))
