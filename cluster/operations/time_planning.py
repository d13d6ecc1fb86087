"""Measures the machine, plans a run's time, and adapts its limits to the machine's speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.evaluation.during_training import interim_questions
from floe.cluster.exports.initial_adapter import initial_adapter
from floe.cluster.machine.cores import num_cores
from floe.cluster.memory_plan import ModelShape
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.questions.epochs import num_asked_in_epoch, with_num_steps
from floe.cluster.questions.fitting import encoder_of_run, shows_its_gold
from floe.cluster.terminal.progress import Progress
from floe.cluster.time_plan.card_time import CardTime, assumptions, plan_on_card
from floe.cluster.time_plan.limits import scaled_limits
from floe.cluster.time_plan.measure import measure_rates
from floe.cluster.time_plan.measured_speed import read_speed
from floe.cluster.time_plan.named_cards import NamedCard
from floe.cluster.time_plan.plan import TimePlan, plan_time
from floe.cluster.time_plan.plan_files import keep_mark, start_record
from floe.cluster.time_plan.rates import MachineRates, slowdown
from floe.cluster.time_plan.sentences import limits_sentence, plan_sentence, shorter_way
from floe.cluster.time_plan.tokens import RunTokens, TextLengths, lengths_of, run_tokens, warm_start_tokens
from floe.cluster.traces.making import num_to_sample
from floe.cluster.training.warm_start import WarmStart, warm_start_of
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

NUM_SAMPLED = 200  # training questions whose lengths are taken for all
ASSUMED_PROMPT_SHARE = 0.5  # share of the longest prompt, where the questions or the tokenizer are not here
ASSUMED_ANSWER_TOKENS, ASSUMED_QUESTIONS = 60, 200
ONLY_CPU = "the time is not known before a run on GPUs: it is measured for this machine's processor alone"

Measure = Callable[[ModelShape, RunConfig], MachineRates]


def measured(shape: ModelShape, config: RunConfig) -> MachineRates:
    num_threads = config.learner.num_threads or num_cores()
    return measure_rates(shape, config.model.dtype, config.rollout.dtype, num_threads)


def needs_gpus(config: RunConfig) -> bool:
    return config.asks_for_gpus


def limited_run(
    config: RunConfig,
    encoder: PromptEncoder,
    sets: QuestionSets,
    warm_start: WarmStart | None,
    run_dir: Path,
    progress: Progress,
    num_steps_done: int,
    measure: Measure = measured,
) -> RunConfig:
    """Print and record how long the rest of a run takes; return its configuration with this machine's limits.

    A run on GPUs has no plan, and keeps the limits that it was given.
    """
    if needs_gpus(config):
        progress.note(ONLY_CPU)
        return config
    shape = shape_of(config)
    plan = plan_time(config, shape, measure(shape, config), _tokens(config, encoder, sets, warm_start, num_steps_done))
    start_record(run_dir, plan)
    progress.planned(plan, partial(keep_mark, run_dir))
    for line in (plan_sentence(plan), shorter_way(plan), limits_sentence(plan.slowdown)):
        if line:
            progress.note(line)
    return scaled_limits(config, plan.slowdown, plan)


def limited_to_machine(config: RunConfig, progress: Progress, measure: Measure = measured) -> RunConfig:
    """Return the configuration with limits that fit this machine, for a command that trains nothing and has no plan."""
    if needs_gpus(config):
        return config
    slowness = slowdown(measure(shape_of(config), config))
    line = limits_sentence(slowness)
    if line:
        progress.note(line)
    return scaled_limits(config, slowness, None)


def plan_before(config: RunConfig, measure: Measure = measured) -> TimePlan:
    """Plan a run that nobody has started. Raises UserError where its model or its data are not there."""
    asked, shape = tokens_before(config), shape_of(config)
    return plan_time(config, shape, measure(shape, config), asked)


def tokens_before(config: RunConfig) -> RunTokens:
    """Count the tokens of a run that nobody has started. Raises UserError where its model or data are not there."""
    demo_dir = config.run.home_dir / "demo"
    sets = sets_of_run(config)
    model_dir = model_folder(config, demo_dir, weights=False)
    try:
        encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    except OSError as fault:
        raise UserError(f"the tokenizer in {model_dir} can't be read ({fault})") from fault
    fitting = {
        "train": [one for one in sets.train if shows_its_gold(one, encoder)],
        "tune": _fitting(sets.tune, encoder),
    }
    if not fitting["train"] or not fitting["tune"]:
        raise UserError("no prompt fits the context: raise model.max_context_tokens")
    config = with_num_steps(config, num_asked_in_epoch(config, fitting["train"]))
    warm_start = None
    if config.warm_start.enabled:
        kept = replace(sets, train=tuple(fitting["train"]), tune=tuple(fitting["tune"]))
        warm_start = warm_start_of(config, model_dir, encoder, kept, initial_adapter(config))
    return _tokens(config, encoder, sets, warm_start, 0)


def time_on_card(config: RunConfig, card: NamedCard, *, takes_turns: bool) -> CardTime:
    """Plan a run on a card that is not here. Raises UserError for measurements of it that can't be read."""
    speed = read_speed(config.run.home_dir, card)
    assumed = assumptions(card, config, speed)
    try:
        asked = tokens_before(config)
    except (UserError, OSError, ValueError) as fault:
        asked = tokens_assumed(config)
        assumed.append(
            f"prompts have {ASSUMED_PROMPT_SHARE * config.max_prompt_tokens:.0f} tokens, golds {ASSUMED_ANSWER_TOKENS}"
            f", an evaluation at most {ASSUMED_QUESTIONS} questions, {_assumed_steps(config)}and no warm start is "
            "counted, because the texts "
            f"can't be counted here ({' '.join(str(fault).split()).rstrip('.')})"
        )
    plan = plan_on_card(config, shape_of(config), card, asked, speed=speed, takes_turns=takes_turns)
    return CardTime(card=card, plan=plan, assumptions=tuple(assumed))


def _assumed_steps(config: RunConfig) -> str:
    """Return how many steps stand for epochs over questions that are not here; nothing for a run by steps."""
    if config.run.known_num_steps is not None:
        return ""
    return f"the run {config.run.num_steps} steps in place of its {config.run.num_epochs} epochs, "


def tokens_assumed(config: RunConfig) -> RunTokens:
    """Count the tokens of a run whose questions or tokenizer are not here, without a warm start."""
    lengths = TextLengths(
        prompt_tokens=ASSUMED_PROMPT_SHARE * config.max_prompt_tokens, answer_tokens=ASSUMED_ANSWER_TOKENS
    )
    evaluation = config.evaluation
    return run_tokens(
        config,
        lengths,
        None,
        num_evaluated=min(evaluation.max_questions, ASSUMED_QUESTIONS) if evaluation.enabled else 0,
        num_interim_questions=evaluation.num_interim_questions,
    )


def _tokens(
    config: RunConfig,
    encoder: PromptEncoder,
    sets: QuestionSets,
    warm_start: WarmStart | None,
    num_steps_done: int,
) -> RunTokens:
    evaluation = config.evaluation
    is_to_make = warm_start is not None and not warm_start.is_made and num_steps_done == 0
    return run_tokens(
        config,
        _lengths(encoder, sets.train),
        warm_start_tokens(config, warm_start.examples, warm_start.held_back) if warm_start and is_to_make else None,
        num_evaluated=min(len(sets.split(evaluation.split)), evaluation.max_questions) if evaluation.enabled else 0,
        num_interim_questions=len(interim_questions(sets.tune, evaluation)),
        num_steps_done=num_steps_done,
        num_traced=num_to_sample(warm_start.traces) if warm_start and warm_start.traces and is_to_make else 0,
    )


def _lengths(encoder: PromptEncoder, questions: Sequence[Question]) -> TextLengths:
    sampled = _fitting(questions[:: max(1, len(questions) // NUM_SAMPLED)], encoder)
    return lengths_of(
        [encoder.training_prompt(one) for one in sampled], [encoder.answer(one.gold_sql[0]) for one in sampled]
    )


def _fitting(questions: Sequence[Question], encoder: PromptEncoder) -> list[Question]:
    return [one for one in questions if not encoder.encoded_for_training(one).refused]
