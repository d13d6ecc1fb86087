"""The steps that `run.num_epochs` comes to, once the number of training questions is known (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from floe.actors.questions.random_streams import steps_of_epoch
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.configs.sections.bounds import MAX_STEPS


def with_num_steps(config: RunConfig, num_questions: int) -> RunConfig:
    """Return the configuration with `run.num_steps` of its epochs over so many questions; unchanged without epochs.

    Raises UserError where a number of steps was given too and is another one, and for more steps than a run may have.
    """
    run = config.run
    if run.num_epochs is None:
        return config
    num_steps = run.num_epochs * steps_of_epoch(num_questions, config.rollout.questions_per_step)
    what = f"run.num_epochs is {run.num_epochs}, which is {num_steps:,} steps with {num_questions:,} training questions"
    if run.known_num_steps not in (None, num_steps):
        raise UserError(f"{what}, but run.num_steps is {run.num_steps:,}: give one of the two.")
    if num_steps > MAX_STEPS:
        raise UserError(
            f"{what}, but a run has at most {MAX_STEPS:,}: lower run.num_epochs or raise rollout.questions_per_step."
        )
    return config.model_copy(update={"run": run.model_copy(update={"num_steps": num_steps})})


def num_asked_in_epoch(config: RunConfig, train: Sequence[Question]) -> int:
    """Return how many questions an epoch asks: each once, in a mixture as often as its source is repeated."""
    repeats = {one.label: one.repeat for one in config.data.sources}
    return sum(repeats.get(one.source, 1) for one in train)


def epochs_sentence(config: RunConfig, num_questions: int) -> str:
    """Return what a run with epochs says at its start."""
    per_epoch = config.run.num_steps // (config.run.num_epochs or 1)
    least, most = num_questions // per_epoch, -(-num_questions // per_epoch)
    sizes = f"{most} questions" if least == most else f"{least} or {most} questions"
    epochs = f"{config.run.num_epochs} epoch{'' if config.run.num_epochs == 1 else 's'}"
    return f"{epochs} of {num_questions:,} questions: {config.run.num_steps:,} steps of {sizes}"
