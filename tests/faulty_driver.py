"""Runs `floe` with a fault planted in its learner, from outside: FLOE_FAULT names it.

The learner's own process changes its functions after it has joined; nothing in floe knows of that.
"""

from __future__ import annotations

import os
from typing import Any

import ray

from floe.cluster import cli
from floe.cluster.training import attempt

SIGN, FROZEN, SHUFFLED = "sign", "frozen", "shuffled"
FAULTS = (SIGN, FROZEN, SHUFFLED)


def wrong_sign(actor: Any) -> None:
    """Have the loss grow instead of fall."""
    from dataclasses import replace

    from floe.learner import grpo_learner

    right = grpo_learner.grpo_loss

    def negated(**given: Any) -> Any:
        terms = right(**given)
        return replace(terms, loss=-terms.loss)

    grpo_learner.grpo_loss = negated


def frozen(actor: Any) -> None:
    """Have the optimiser leave the adapter as it is."""
    learner = actor._learner
    learner._learning_rate = lambda: 0.0


def shuffled(actor: Any) -> None:
    """Give each step's rewards to other candidates of the step."""
    import random
    from dataclasses import replace

    learner = actor._learner
    right = learner.update

    def update(step: int, groups: Any, supervised: Any = ()) -> Any:
        scores = [score for group in groups for score in group.scores]
        random.Random(step).shuffle(scores)
        drawn = iter(scores)
        given = [replace(group, scores=tuple(next(drawn) for _ in group.scores)) for group in groups]
        return right(step, given, supervised)

    learner.update = update


def start_faulty(*arguments: Any) -> Any:
    learner = real_start(*arguments)
    fault = {SIGN: wrong_sign, FROZEN: frozen, SHUFFLED: shuffled}[os.environ["FLOE_FAULT"]]
    ray.get([rank.__ray_call__.remote(fault) for rank in learner._ranks])
    return learner


real_start = attempt.start_learner

if __name__ == "__main__":
    attempt.start_learner = start_faulty
    cli.main()
