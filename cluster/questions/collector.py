"""Collects the groups of a run's steps: which questions, in which sizes, and what they say of the pass rates."""

from __future__ import annotations

from dataclasses import replace

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.loop.dynamic_sampling import collect_step
from floe.cluster.loop.generation import CollectStep
from floe.cluster.loop.group_collection import Collected, Rewards, Rollouts
from floe.cluster.questions.drawn import draw_figures
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.cluster.questions.run_posterior import RunPosterior
from floe.configs.schema import RunConfig


def step_collector(
    config: RunConfig,
    encoder: PromptEncoder,
    sets: QuestionSets,
    rollouts: Rollouts,
    rewards: Rewards,
    posterior: RunPosterior | None,
) -> CollectStep:
    """Return what generates and scores a step with a version of the adapter; steps come in their order.

    `posterior` is that of a run that keeps one; it learns of the groups before the next step is asked.
    """
    refill = refill_of_run(config, encoder, sets, posterior)

    def collect(step: int, version: int) -> Collected:
        requests = requests_of_step(config, encoder, sets, step, posterior)
        collected = collect_step(rollouts, rewards, requests, step, version, encoder.answer_start, refill)
        if posterior is None:
            return collected
        posterior.note(step, collected.groups)
        figures = draw_figures(
            collected.groups,
            posterior.before(step),
            sets.train,
            group_size=config.rollout.group_size,
            num_never_drawn=posterior.num_never_drawn(),
            carries_gradient=refill.carries_gradient,
        )
        return replace(collected, draw=figures)

    return collect
