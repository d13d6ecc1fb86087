"""Fits the limits of a run to the speed of its machine (pure)."""

from __future__ import annotations

from floe.cluster.time_plan.plan import TimePlan
from floe.configs.schema import RunConfig

PLANNED_TIMES = 10  # a wait may take this many times what the plan says for it


def scaled_limits(config: RunConfig, slowdown: float, plan: TimePlan | None) -> RunConfig:
    """Return the configuration with each wait's limit as long as this machine may need; none gets shorter.

    A limit is as many times the given one as the machine is slower than the reference, and at least ten times what the
    plan says for the longest wait that it ends. `reward.time_limit_s` stays: it is part of a verdict.
    """

    def limit_s(given_s: float, planned_s: float) -> float:
        return max(given_s * max(1.0, slowdown), PLANNED_TIMES * planned_s)

    start_s = group_s = learner_s = rest_s = 0.0
    if plan is not None:
        start_s, rest_s = plan.start_s, plan.rest_s
        group_s = max(plan.wave_s, plan.generation_s)
        learner_s = max(plan.learning_s, plan.batch_s + plan.held_back_s)
    cluster, rollout, reward = config.cluster, config.rollout, config.reward
    return config.model_copy(
        update={
            "cluster": cluster.model_copy(
                update={
                    "start_timeout_s": limit_s(config.start_limit_s, start_s),
                    "step_timeout_s": limit_s(cluster.step_timeout_s, learner_s),
                }
            ),
            "rollout": rollout.model_copy(update={"stuck_after_s": limit_s(rollout.stuck_after_s, group_s)}),
            "reward": reward.model_copy(
                update={
                    "stuck_after_s": limit_s(reward.stuck_after_s, rest_s),
                    "judge_time_limit_s": limit_s(reward.judge_time_limit_s, 0.0),
                }
            ),
        }
    )
