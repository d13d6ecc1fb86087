"""Derives every random stream from its purpose, never from the order in which things happened (pure)."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence

from floe.cluster.messages import Question

SEED_BITS = 62
MIN_WEIGHT = 0.01  # weight of a question whose measured pass rate is 0 or 1; a rate of one half gives 0.25


def stream_seed(run_seed: int, purpose: str, question_id: str) -> int:
    """Return the 62-bit seed of one group's streams; candidate i draws from `seed + i`."""
    digest = hashlib.sha256(f"{run_seed}/{purpose}/{question_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def questions_of_step(questions: Sequence[Question], step: int, num_questions: int, run_seed: int) -> list[Question]:
    """Return the questions of step `step` (from 1): each epoch has its own order and is cut into whole steps.

    The few questions left over at an epoch's end come up in another epoch, whose order differs, so that no step holds a
    question twice. Raises ValueError when a step needs more questions than there are.
    """
    steps_per_epoch = len(questions) // num_questions
    if steps_per_epoch == 0:
        raise ValueError(f"a step needs {num_questions} questions, there are {len(questions)}")
    epoch, index = divmod(step - 1, steps_per_epoch)
    order = list(range(len(questions)))
    random.Random(f"{run_seed}/epoch/{epoch}").shuffle(order)
    return [questions[i] for i in order[index * num_questions : (index + 1) * num_questions]]


def steps_of_epoch(num_questions: int, max_per_step: int) -> int:
    """Return the fewest steps that ask so many questions once, with at most `max_per_step` in each."""
    return -(-num_questions // max_per_step)


def questions_of_epochs_step(
    questions: Sequence[Question], step: int, max_per_step: int, run_seed: int
) -> list[Question]:
    """Return the questions of step `step` (from 1) of a run by epochs, each of which asks every question once.

    An epoch has its own order and is cut into the fewest steps of at most `max_per_step` questions. These are as long
    as one another, up to one question: a short rest would be an update of a few questions.
    """
    num_steps = steps_of_epoch(len(questions), max_per_step)
    epoch, index = divmod(step - 1, num_steps)
    order = list(range(len(questions)))
    random.Random(f"{run_seed}/epoch/{epoch}").shuffle(order)
    start, end = (len(questions) * number // num_steps for number in (index, index + 1))
    return [questions[i] for i in order[start:end]]


def middle_of_step(
    questions: Sequence[Question], pass_rates: Mapping[str, float], step: int, num_questions: int, run_seed: int
) -> list[Question]:
    """Return the questions of step `step`, drawn without replacement by weights p (1 - p) of their pass rates p.

    An unknown rate counts as one half; 0 and 1 keep a small weight, since a measured rate is an estimate. Drawn by the
    largest u^(1/w) (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006). Every step draws from
    all questions. Raises ValueError when a step needs more questions than there are.
    """
    if num_questions > len(questions):
        raise ValueError(f"a step needs {num_questions} questions, there are {len(questions)}")
    stream = random.Random(f"{run_seed}/middle/{step}")

    def key(question: Question) -> float:
        rate = pass_rates.get(question.question_id, 0.5)
        return math.log(1.0 - stream.random()) / max(rate * (1 - rate), MIN_WEIGHT)

    return sorted(questions, key=key, reverse=True)[:num_questions]


def refill_order(questions: Sequence[Question], asked: Sequence[Question], step: int, run_seed: int) -> list[Question]:
    """Return every question that step `step` doesn't ask anyway, in the order in which its refill rounds take them.

    The order belongs to the step alone and takes nothing from the epochs: a refill question comes up in its epoch as
    well.
    """
    asked_ids = {question.question_id for question in asked}
    others = [question for question in questions if question.question_id not in asked_ids]
    random.Random(f"{run_seed}/refill/{step}").shuffle(others)
    return others


def answers_of_step(num_answers: int, step: int, num_drawn: int, run_seed: int) -> list[int]:
    """Return the numbers of the answers of a step's supervised term: all different, from (seed, step) alone."""
    return random.Random(f"{run_seed}/supervised/{step}").sample(range(num_answers), min(num_drawn, num_answers))
