"""The rule for which groups carry a gradient, for what the learner trains on and for what a step refills (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.messages import Outcome, ScoredGroup
from floe.configs.sections.learning_sections import AlgorithmSection
from floe.learner.loss.advantages import is_zero_variance
from floe.learner.loss.term_advantages import any_term_varies


def carries_gradient(group: ScoredGroup, rewards: Sequence[float | None], algorithm: AlgorithmSection) -> bool:
    """Return False for a group without a gradient.

    Such is a group of equal rewards (under `advantage_terms=gdpo` of equal terms) when the KL coefficient is 0, one in
    which no completion has both tokens and a reward, and by option one without a single match among the candidates that
    carry a reward. `rewards`, one per candidate, are those after `algorithm.overlong` (`shaped_rewards`).
    """
    rewarded = [
        (completion, score)
        for completion, score, reward in zip(group.rollout.completions, group.scores, rewards, strict=True)
        if reward is not None
    ]
    if not any(completion.token_ids for completion, _ in rewarded):
        return False
    if algorithm.drop_groups_without_match and not any(score.outcome is Outcome.MATCH for _, score in rewarded):
        return False
    if algorithm.kl_coefficient > 0:
        return True
    if algorithm.advantage_terms == "gdpo":
        return any_term_varies(group, rewards)
    return not is_zero_variance(rewards)
