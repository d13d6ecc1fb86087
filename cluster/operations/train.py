"""`floe train`: set-up, warm start, GRPO, the before/after table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from actors.data.question_sets import QuestionSets, load_question_sets
from actors.prompt_encoder import PromptEncoder
from actors.prompts import prefill
from cluster.answers import CONTROL_QUESTIONS, Harness, temperature_of_same_entropy
from cluster.broadcast import Broadcast
from cluster.controller import train_grpo
from cluster.embedded_models import model_folder
from cluster.generation import Ahead, InTurn
from cluster.messages import Question
from cluster.operations.question_budget import fitting_questions
from cluster.operations.step_requests import refill_of_run, requests_of_step
from cluster.placement import (
    check_resources,
    has_spare_cores,
    ray_session,
    start_learner,
    start_reward_pool,
    start_rollout_pool,
)
from cluster.refill import collect_step
from cluster.reports.evaluation_table import WARM_START, EvaluationReport, PolicyAnswers, evaluation_report
from cluster.reports.progress import Progress, make_console
from cluster.run_recorder import RunRecorder
from cluster.run_watch import run_watch
from cluster.scoring import Collected, Rewards, Rollouts
from cluster.warm_start import warm_start_adapter
from configs.errors import UserError
from configs.loading import dump_config
from configs.schema import RunConfig

MAX_CANARY_TOKENS = 96


def train(config: RunConfig, run_dir: Path | None) -> Path:
    """Run the whole of it; returns the run's folder. Raises UserError for what the user can mend."""
    console = make_console()
    progress = Progress(console)
    run_dir = _new_run_dir(config, run_dir)
    dump_config(config, run_dir / "config.yaml")
    with run_watch(run_dir, config.run.num_steps, progress):
        report = _train_in(run_dir, config, progress)
    if report is not None:
        report.render(console)
    progress.note(f"files of the run: {run_dir}")
    return run_dir


def _train_in(run_dir: Path, config: RunConfig, progress: Progress) -> EvaluationReport | None:
    progress.phase("set-up")
    progress.note(f"run folder {run_dir}")
    demo_dir = config.run.home_dir / "demo"
    sets = load_question_sets(config.data, demo_dir)
    model_dir = model_folder(config, demo_dir)
    progress.note(f"model {model_dir}, databases {sets.databases_dir}")
    encoder = PromptEncoder(model_dir, sets.databases_dir, config.prompt)
    sets = fitting_questions(sets, encoder, config, progress)
    with ray_session(config.cluster, namespace=f"floe-{run_dir.name}") as line:
        progress.note(line)
        check_resources(config)
        report = _train_on_cluster(config, run_dir, model_dir, encoder, sets, progress)
    if report is not None:
        (run_dir / "report.json").write_text(report.to_json())
    return report


def _train_on_cluster(
    config: RunConfig, run_dir: Path, model_dir: Path, encoder: PromptEncoder, sets: QuestionSets, progress: Progress
) -> EvaluationReport | None:
    initial = None
    if config.warm_start.enabled:
        progress.phase("warm start")
        learned = sets.train[: config.warm_start.max_train_questions]
        held_back = sets.tune[: config.warm_start.max_held_back_questions]
        initial = warm_start_adapter(config, model_dir, encoder, learned, held_back, progress)
    progress.phase("start of the actors")
    with ThreadPoolExecutor() as starts:  # each is mostly one thread's work, in a process of its own
        rewards_start = starts.submit(start_reward_pool, config, sets.databases_dir)
        rollouts_start = starts.submit(start_rollout_pool, config, model_dir)
        learner_start = starts.submit(start_learner, config, model_dir, initial)
    rewards, rollouts, learner = rewards_start.result(), rollouts_start.result(), learner_start.result()
    harness = Harness(config, encoder, rollouts, rewards)
    questions = sets.split(config.evaluation.split)[: config.evaluation.max_questions]
    broadcast = Broadcast(learner, rollouts, _canary_ids(encoder, sets.train[0]))
    before = broadcast.publish(0).manifest
    learner.save_adapter(run_dir / "adapters" / "start")
    policies: list[PolicyAnswers] = []
    if config.evaluation.enabled:
        progress.phase("evaluation before")
        temperature = config.evaluation.temperature
        if config.evaluation.include_base:
            policies.append(harness.answers("base model", questions, None, temperature))
        policies.append(harness.answers(WARM_START, questions, 0, temperature))
    progress.phase("GRPO")
    with (
        closing(_generation(config, encoder, sets, rollouts, rewards, progress)) as generation,
        RunRecorder(
            run_dir,
            config.run.num_steps,
            learner,
            rollouts,
            rewards,
            progress,
            max_log_bytes=config.run.max_rollout_log_bytes,
        ) as recorder,
    ):
        train_grpo(
            generation=generation,
            learner=learner,
            broadcast=broadcast,
            recorder=recorder,
            num_steps=config.run.num_steps,
            max_dropped_share=config.run.max_dropped_share,
        )
    if not config.evaluation.enabled:
        return None
    progress.phase("evaluation after")
    policies += _after(config, harness, sets, questions, before)
    return evaluation_report(
        policies,
        num_resamples=config.evaluation.num_bootstrap,
        seed=config.run.seed,
        num_asked=len(questions),
    )


def _generation(
    config: RunConfig,
    encoder: PromptEncoder,
    sets: QuestionSets,
    rollouts: Rollouts,
    rewards: Rewards,
    progress: Progress,
) -> InTurn | Ahead:
    refill = refill_of_run(config, encoder, sets.train)

    def collect(step: int, version: int) -> Collected:
        requests = requests_of_step(config, encoder, sets.train, step)
        return collect_step(rollouts, rewards, requests, step, version, prefill(config.prompt.style), refill)

    if config.rollout.max_staleness == 0:
        return InTurn(collect)
    in_turns = not has_spare_cores(config)
    progress.note(
        f"generation is up to {config.rollout.max_staleness} steps ahead of the updates"
        + (", in turns with them: there are no cores to spare" if in_turns else "")
    )
    return Ahead(
        collect,
        num_steps=config.run.num_steps,
        max_staleness=config.rollout.max_staleness,
        in_turns=in_turns,
        # Longer than any single wait of the other side.
        timeout_s=config.cluster.step_timeout_s + config.cluster.start_timeout_s + config.rollout.stuck_after_s,
    )


def _canary_ids(encoder: PromptEncoder, question: Question) -> tuple[int, ...]:
    """The end of its prompt, with its answer: text of the kind that the run generates."""
    return (encoder.prompt(question) + encoder.answer(question.gold_sql[0]))[-MAX_CANARY_TOKENS:]


def _after(config: RunConfig, harness: Harness, sets: QuestionSets, questions: Sequence, before) -> list[PolicyAnswers]:
    """The trained policy, and in front of it the warm start sampled at the trained policy's entropy."""
    temperature = config.evaluation.temperature
    last = config.run.num_steps
    trained = harness.answers("GRPO", questions, last, temperature)
    if not config.evaluation.include_entropy_control:
        return [trained]
    target = harness.entropy(sets.tune[:CONTROL_QUESTIONS], last, temperature)
    # The warm start's slot was reused long ago; it comes back under a version of its own.
    again = last + 1
    harness.rollouts.install(replace(before, version=again))
    same_entropy = temperature_of_same_entropy(harness, sets.tune, again, target)
    control = harness.answers(f"{WARM_START}, T {same_entropy:.2f}", questions, again, same_entropy, greedy=False)
    return [control, trained]


def _new_run_dir(config: RunConfig, run_dir: Path | None) -> Path:
    if run_dir is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        run_dir = config.run.home_dir / "runs" / f"{config.run.name}-{stamp}-{os.getpid()}"
    run_dir = run_dir.expanduser().resolve()
    if (run_dir / "metrics.jsonl").exists():
        raise UserError(f"The run folder {run_dir} holds a run already: choose another --run-dir.")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"Can't make the run folder {run_dir} ({fault.strerror}): choose another --run-dir.") from fault
    return run_dir
