"""`floe bench trimming`: what trimmed prompts cost a policy, and what keeping the golds' columns would hide of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.evaluation.harness import Harness, num_correct
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import Question, ScoredGroup
from floe.cluster.models.model_folder import model_folder
from floe.cluster.precision.resolved import with_precision
from floe.cluster.preparation.clock import with_clock
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.ray_actors.placement import (
    check_resources,
    ray_session,
    start_reward_pool,
    start_rollout_pool,
    stored_adapter,
)
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmingCost:
    """Right greedy answers to questions whose prompts lost columns: without a look at the gold, and with its columns.

    Those that lost a column of their gold are counted apart too.
    """

    max_tokens: int
    num_asked: int
    num_right: int  # of all that were asked, without a look at the gold
    num_lost: int  # prompts that lost columns
    num_lost_right: int
    num_lost_right_with_gold: int
    num_gold_lost: int  # of these, the ones that lost a column of their gold
    num_gold_lost_right: int
    num_gold_lost_right_with_gold: int

    def sentence(self) -> str:
        return (
            f"{self.max_tokens:,} tokens: {self.num_right} of {self.num_asked} right; of {self.num_lost} that lost "
            f"columns {self.num_lost_right}, with the golds' columns {self.num_lost_right_with_gold}; of "
            f"{self.num_gold_lost} that lost a column of their gold {self.num_gold_lost_right}, with these columns "
            f"{self.num_gold_lost_right_with_gold}"
        )


def bench_trimming(config: RunConfig, adapter: Path | None, as_json: bool) -> None:
    """Ask the questions of `evaluation.split` with both trimmings, and print the counts. Raises UserError."""
    progress = Progress(make_console(stderr=True))
    model_dir = model_folder(config, config.run.home_dir / "demo")
    decided = with_precision(config, lambda: shape_of(config))
    config = with_clock(decided.config, adapter)
    one_answer = config.evaluation.model_copy(update={"num_samples": 1})
    config = config.model_copy(update={"evaluation": one_answer})
    sets = sets_of_run(config)
    blind, keeping = (_encoder(config, model_dir, sets.databases_dir, keeps_gold=one) for one in (False, True))
    listed = sets.split(config.evaluation.split)
    questions = [one for one in listed if not (blind.encoded(one).refused or keeping.encoded_for_training(one).refused)]
    questions = questions[: config.evaluation.max_questions]
    if not questions:
        raise UserError("No question's prompt fits with both trimmings: raise model.max_context_tokens.")
    with ray_session(config.cluster, namespace="floe-trimming") as line:
        progress.note(line)
        check_resources(config)
        rollouts, rewards = start_rollout_pool(config, model_dir), start_reward_pool(config, sets.databases_dir)
        if adapter is not None:
            rollouts.install(stored_adapter(config, adapter))
        version = None if adapter is None else 0
        without, with_gold = (
            Harness(config, one, rollouts, rewards).sampled(questions, version, 0.0, "trimming")
            for one in (blind, keeping)
        )
    found = trimming_cost(questions, blind, without, with_gold, config.max_prompt_tokens)
    print(json.dumps(asdict(found), indent=2) if as_json else found.sentence())


def trimming_cost(
    questions: Sequence[Question],
    encoder: PromptEncoder,
    without: Sequence[ScoredGroup],
    with_gold: Sequence[ScoredGroup],
    max_tokens: int,
) -> TrimmingCost:
    """Count the right answers; `encoder` is the one that never looks at golds, the groups follow the questions."""
    rows = []
    for question, blind, seeing in zip(questions, without, with_gold, strict=True):
        prompt = encoder.encoded(question)
        is_lost, is_gold_lost = bool(prompt.dropped_columns), encoder.lacks_gold(question, prompt)
        rows.append((is_lost, is_gold_lost, num_correct(blind), num_correct(seeing)))
    return TrimmingCost(
        max_tokens=max_tokens,
        num_asked=len(rows),
        num_right=sum(right for _, _, right, _ in rows),
        num_lost=sum(lost for lost, _, _, _ in rows),
        num_lost_right=sum(right for lost, _, right, _ in rows if lost),
        num_lost_right_with_gold=sum(right for lost, _, _, right in rows if lost),
        num_gold_lost=sum(gold for _, gold, _, _ in rows),
        num_gold_lost_right=sum(right for _, gold, right, _ in rows if gold),
        num_gold_lost_right_with_gold=sum(right for _, gold, _, right in rows if gold),
    )


def _encoder(config: RunConfig, model_dir: Path, databases_dir: Path, *, keeps_gold: bool) -> PromptEncoder:
    prompt = config.prompt.model_copy(update={"trim_keeps_gold": keeps_gold})
    return encoder_of_run(config.model_copy(update={"prompt": prompt}), model_dir, databases_dir)
