"""Detectors of what the reward pays for: nothing to learn from, execution alone, constants, empty results."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.health.history import History

MOSTLY = 0.5
ALL_RIGHT_SHARE = 0.9  # right answers above which equal rewards are those of a policy that has learned all


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualRewards:
    """Finds that nearly all groups have equal rewards, which teach nothing."""

    limit_share: float

    def find(self, history: History) -> str | None:
        share = history.mean("zero_variance_share")
        if share is None or share <= self.limit_share:
            return None
        right = history.mean("correct_share")
        remedy = (
            "nearly all answers are right: end here, or train on harder questions"
            if right is not None and right > ALL_RIGHT_SHARE
            else "train on questions that are sometimes right (data.sampler=middle, data.filter_by_pass_rate), sample "
            "larger groups (rollout.group_size), or lower learner.learning_rate if the share has risen"
        )
        return (
            f"{_percent(share)} of the groups had equal rewards in {history.window} "
            f"(health.equal_rewards_share is {_percent(self.limit_share)}), and such groups teach nothing: {remedy}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutesNotRight:
    """Finds that ever more candidates run while no more of them are right: the reward for running is what is learned.

    Compares the last window with the first one of the run.
    """

    rise_share: float
    flat_share: float

    def find(self, history: History) -> str | None:
        executes, executed = history.mean("executes_share"), history.first_mean("executes_share")
        right, was_right = history.mean("correct_share"), history.first_mean("correct_share")
        if executes is None or executed is None or right is None or was_right is None:
            return None
        if executes - executed <= self.rise_share or right - was_right >= self.flat_share:
            return None
        return (
            f"candidates that run rose from {_percent(executed)} in {history.first_window} to {_percent(executes)} in "
            f"{history.window} (health.executes_rise_share is {_percent(self.rise_share)}) and right ones went from "
            f"{_percent(was_right)} to {_percent(right)} (health.right_flat_share is {_percent(self.flat_share)}): the "
            "policy learns to run instead of to be right; use a reward that pays less for running, or "
            "algorithm.advantage_scale=none"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HollowRewards:
    """Finds that a kind of hollow answers earns most of the reward."""

    figure: str
    limit_share: float
    key: str  # of the limit
    answers: str  # what they are, in words
    remedy: str

    def find(self, history: History) -> str | None:
        share = history.mean(self.figure)
        if share is None or share <= self.limit_share:
            return None
        return (
            f"{self.answers} earned {_percent(share)} of the reward in {history.window} "
            f"({self.key} is {_percent(self.limit_share)}): {self.remedy}"
        )


def constant_rewards(limit_share: float) -> HollowRewards:
    return HollowRewards(
        figure="constant_reward_share",
        limit_share=limit_share,
        key="health.constant_reward_share",
        answers="answers that read no table, or are the same for most questions,",
        remedy="the reward pays for answers that ignore the question; look at them with floe report, and check the "
        "reward with floe bench hacking",
    )


def empty_rewards(limit_share: float) -> HollowRewards:
    return HollowRewards(
        figure="empty_reward_share",
        limit_share=limit_share,
        key="health.empty_reward_share",
        answers="queries without a row in their result",
        remedy="the reward pays for empty results; leave out questions whose gold has none (reward.empty_gold=skip), "
        "or use a reward that pays less for running",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
