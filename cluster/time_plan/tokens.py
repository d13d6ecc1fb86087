"""Counts the tokens that a run asks of learner and engine, from its configuration and its texts' lengths (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean

from floe.cluster.messages import WarmStartExample
from floe.configs.schema import RunConfig
from floe.learner.supervised_batches import by_database, in_chunks, num_batches_of_epoch

# Expected share of the batches that a warm start uses which may end early. A guess until it has ended.
EARLY_END_SHARE = 0.65
# A policy taught by a warm start answers about as long as its golds; another one writes much more. Guesses until seen.
LENGTH_OF_GOLDS = 1.1
LENGTH_WITHOUT_WARM_START = 0.8  # of max_new_tokens
# Without a KL term a group of equal rewards carries no gradient. The share of groups that carry one is also a guess.
USEFUL_SHARE = 0.65
# The entropy control: questions, candidates of each, and temperatures tried in addition to the trained policy's.
CONTROL_SEQUENCES = 20 * 4 * 5
CONTROL_QUESTIONS = 20 * 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLengths:
    """Means over the questions of a run."""

    prompt_tokens: float
    answer_tokens: float  # tokens of the golds, end token included


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Texts that the model is trained on, or scored on, at once."""

    num_tokens: float
    num_scored: float
    num_pairs: float  # pairs of a query and a key that it may see


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Completions that an engine is asked for at once; a prompt is computed once per group."""

    num_prompt_tokens: float
    num_sequences: int
    mean_tokens: float
    max_tokens: int

    def __add__(self, other: Generated) -> Generated:
        """Return both, one after the other."""
        num_sequences = self.num_sequences + other.num_sequences
        num_tokens = self.num_sequences * self.mean_tokens + other.num_sequences * other.mean_tokens
        return Generated(
            num_prompt_tokens=self.num_prompt_tokens + other.num_prompt_tokens,
            num_sequences=num_sequences,
            mean_tokens=num_tokens / max(1, num_sequences),
            max_tokens=max(self.max_tokens, other.max_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartTokens:
    num_batches: int  # expected number
    max_batches: int
    batch: Trained
    num_evaluations: int
    held_back: Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTokens:
    warm_start: WarmStartTokens | None  # None: there is none to make
    num_steps: int  # number still to be done
    step: Generated
    update: Trained
    before: Generated | None
    after: Generated | None
    interim: Generated | None
    num_interim: int


NOTHING_GENERATED = Generated(num_prompt_tokens=0, num_sequences=0, mean_tokens=0, max_tokens=0)


def lengths_of(prompts: Iterable[Sequence[int]], answers: Iterable[Sequence[int]]) -> TextLengths:
    return TextLengths(prompt_tokens=fmean(map(len, prompts)), answer_tokens=fmean(map(len, answers)))


def run_tokens(
    config: RunConfig,
    lengths: TextLengths,
    warm_start: WarmStartTokens | None,
    *,
    num_evaluated: int,
    num_interim_questions: int = 0,
    num_steps_done: int = 0,
) -> RunTokens:
    """Count what the rest of a run asks for; `num_evaluated` are the questions of its table, 0 for none."""
    rollout, evaluation = config.rollout, config.evaluation
    num_steps = config.run.num_steps - num_steps_done
    mean = expected_completion_tokens(config, lengths)
    questions, group = rollout.questions_per_step, rollout.group_size

    def asked(num_questions: int, num_sequences: int, mean_tokens: float = mean) -> Generated:
        return Generated(
            num_prompt_tokens=num_questions * lengths.prompt_tokens,
            num_sequences=num_sequences,
            mean_tokens=mean_tokens,
            max_tokens=rollout.max_new_tokens,
        )

    before = after = None
    if evaluation.enabled and num_evaluated and config.run.num_steps > 0:
        table = num_evaluated * (evaluation.num_samples + 1)
        if num_steps_done == 0:
            base = asked(2 * num_evaluated, table, float(rollout.max_new_tokens))
            before = asked(2 * num_evaluated, table) + (base if evaluation.include_base else NOTHING_GENERATED)
        after = asked(2 * num_evaluated, table)
        if evaluation.include_entropy_control:
            after += asked(
                num_evaluated + CONTROL_QUESTIONS, num_evaluated * evaluation.num_samples + CONTROL_SEQUENCES
            )
    every = evaluation.every_steps
    return RunTokens(
        warm_start=warm_start,
        num_steps=num_steps,
        step=asked(questions, questions * group),
        update=groups_of_completions(
            questions * (1.0 if config.algorithm.kl_coefficient > 0 else USEFUL_SHARE),
            lengths.prompt_tokens,
            group,
            mean,
        ),
        before=before,
        after=after,
        interim=asked(num_interim_questions, num_interim_questions) if every else None,
        num_interim=num_steps // every + (num_steps_done == 0) if every else 0,
    )


def expected_completion_tokens(config: RunConfig, lengths: TextLengths) -> float:
    """Return the guess of a completion's mean length, while none has been seen."""
    most = config.rollout.max_new_tokens
    if not config.starts_from_adapter:
        return LENGTH_WITHOUT_WARM_START * most
    return min(float(most), LENGTH_OF_GOLDS * lengths.answer_tokens)


def groups_of_completions(num_groups: float, prompt_tokens: float, group_size: int, mean_tokens: float) -> Trained:
    """Count a step's groups as the learner sees them, each prompt once."""
    pairs = prompt_tokens**2 / 2 + group_size * (mean_tokens * prompt_tokens + mean_tokens**2 / 2)
    return Trained(
        num_tokens=num_groups * (prompt_tokens + group_size * mean_tokens),
        num_scored=num_groups * group_size * mean_tokens,
        num_pairs=num_groups * pairs,
    )


def warm_start_tokens(
    config: RunConfig, examples: Sequence[WarmStartExample], held_back: Sequence[WarmStartExample]
) -> WarmStartTokens:
    """Count a warm start: as learner/supervised.py forms its batches, the schema of a batch's database once."""
    settings = config.warm_start
    chunks = [chunk for same in by_database(examples) for chunk in in_chunks(same, settings)]
    batches_per_epoch = num_batches_of_epoch(examples, settings)
    max_batches = max(1, round(batches_per_epoch * settings.max_epochs))
    eval_every = max(1, batches_per_epoch // settings.evals_per_epoch)
    most_evaluations = math.ceil(max_batches / eval_every)
    may_end_early = most_evaluations > settings.patience + 1
    num_evaluations = max(1, math.ceil(most_evaluations * EARLY_END_SHARE)) if may_end_early else most_evaluations
    counted = [shared_texts(chunk) for chunk in chunks]
    held_back_counted = [shared_texts(same) for same in by_database(held_back)]
    return WarmStartTokens(
        num_batches=min(max_batches, num_evaluations * eval_every),
        max_batches=max_batches,
        batch=Trained(
            num_tokens=sum(one.num_tokens for one in counted) / batches_per_epoch,
            num_scored=sum(one.num_scored for one in counted) / batches_per_epoch,
            num_pairs=sum(one.num_pairs for one in counted) / batches_per_epoch,
        ),
        num_evaluations=num_evaluations,
        held_back=Trained(
            num_tokens=sum(one.num_tokens for one in held_back_counted),
            num_scored=sum(one.num_scored for one in held_back_counted),
            num_pairs=sum(one.num_pairs for one in held_back_counted),
        ),
    )


def shared_texts(examples: Sequence[WarmStartExample]) -> Trained:
    """Count examples of one database in one pack: the common beginning of their prompts counts once."""
    columns = zip(*(one.prompt_token_ids for one in examples), strict=False)
    prefix = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    own = [len(one.prompt_token_ids) - prefix + len(one.answer_token_ids) for one in examples]
    return Trained(
        num_tokens=prefix + sum(own),
        num_scored=sum(len(one.answer_token_ids) for one in examples),
        num_pairs=prefix**2 / 2 + sum(length * prefix + length**2 / 2 for length in own),
    )
