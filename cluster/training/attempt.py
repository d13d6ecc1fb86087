"""One attempt at a run: starts the actors, restores them to the run's state, and trains."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.chosen import chosen_questions
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.checkpoints.run_checkpoints import RunCheckpoints, restore
from floe.cluster.checkpoints.state import RunInputs
from floe.cluster.checkpoints.store import Checkpoint, CheckpointStore
from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.before_and_after import RunEvaluation
from floe.cluster.evaluation.during_training import InterimEvaluation, interim_questions
from floe.cluster.evaluation.harness import Harness
from floe.cluster.loop.adapter_broadcast import Broadcast
from floe.cluster.loop.controller import train_grpo
from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.loop.generation import Ahead, InTurn
from floe.cluster.loop.group_collection import Rewards, Rollouts
from floe.cluster.loop.stop_request import StopRequest
from floe.cluster.loop.token_budget import TokenBudget, tokens_generated
from floe.cluster.memory_plan.colocate import shares_gpu
from floe.cluster.messages import AdapterManifest, GroupRequest, PromptWithAnswers, Question
from floe.cluster.questions.collector import step_collector
from floe.cluster.questions.run_posterior import RunPosterior, posterior_of_run
from floe.cluster.ray_actors.learner_handle import LearnerHandle
from floe.cluster.ray_actors.placement import (
    fetch_blob,
    has_spare_cores,
    put_blob,
    start_learner,
    start_reward_pool,
    start_rollout_pool,
    stored_adapter,
)
from floe.cluster.ray_actors.reward_pool import RewardPool
from floe.cluster.ray_actors.role_memory import role_memory
from floe.cluster.ray_actors.rollout_pool import RolloutPool
from floe.cluster.ray_actors.run_gpus import WatchedDevice, run_gpus
from floe.cluster.run_folder.file_names import LATEST_ADAPTER, START_ADAPTER
from floe.cluster.run_folder.folder_faults import gone
from floe.cluster.run_folder.layout import is_run
from floe.cluster.terminal.progress import Progress
from floe.cluster.traces.making import TraceWork
from floe.cluster.tracking.ray_metrics import prometheus_endpoint
from floe.cluster.tracking.record_sinks import record_sinks
from floe.cluster.tracking.source_metrics import sources_of
from floe.cluster.training.recorder import Measured, RunRecorder, best_accuracy, forget_after
from floe.cluster.training.run_health import RunHealth, run_health
from floe.cluster.training.supervised_term import keep_traces, with_supervised_term
from floe.cluster.training.warm_start import WarmStart, traces_of, warm_start_adapter
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import TAKE_TURNS
from floe.configs.sections.health_section import EQUALITY_LIMIT_S

MAX_CANARY_TOKENS = 96
NUM_LONG_CANARY_ANSWERS, LONG_CANARY_TOKENS = 2, 16
EQUALITY_SHARE = 0.05  # of the run's time, where that is more than the check's limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """State that every attempt of a run shares."""

    config: RunConfig  # with the limits of this machine's speed
    given: RunConfig  # the limits that the user gave: what is recorded
    inputs: RunInputs
    warm_start: WarmStart | None
    initial_adapter: Path | None  # None without one, and where a run goes on whose adapter is gone
    run_dir: Path
    model_dir: Path
    encoder: PromptEncoder
    sets: QuestionSets
    progress: Progress
    longest: Question  # one of the training questions, that with the longest prompt
    kv_cache_bytes: int | None  # of each engine, as planned; None: the engine measures what there is


def train_on_cluster(run: Run, store: CheckpointStore, checkpoint: Checkpoint | None) -> EvaluationReport | None:
    config, run_dir, sets, progress = run.config, run.run_dir, run.sets, run.progress
    last_step = 0 if checkpoint is None else checkpoint.state.step
    keep_traces(config, run_dir, lambda: _traces(run), progress, is_begun=checkpoint is not None)
    rewards, rollouts, learner = _start_actors(run, _initial_adapter(run, checkpoint))
    harness = Harness(config, run.encoder, rollouts, rewards, note_answers=progress.answers)
    evaluation = RunEvaluation(harness, evaluated_questions(config, sets), sets.databases_dir, run_dir)
    if checkpoint is not None:
        learner.load_state(checkpoint.folder)
    device = DeviceTurns(rollouts, learner)
    _check_equality(run, device, learner)
    broadcast = Broadcast(learner, rollouts, device, _canary_ids(run.encoder, sets.train[0]), _long_canary(run))
    start = _install_versions(run, checkpoint, learner, rollouts, broadcast)
    broadcast.prove_on_longest(last_step)
    if config.evaluation.enabled:
        progress.phase("evaluation before")
        evaluation.before()
    progress.phase("GRPO")
    progress.note(f"metrics for Prometheus at {prometheus_endpoint()}")
    _forget_later_steps(run, checkpoint)
    progress.num_steps_done = last_step
    with ExitStack() as stack:
        health = run_health(config, run_dir, checkpoint, learner, progress)
        posterior = posterior_of_run(config, sets, None if checkpoint is None else checkpoint.folder)
        generation = stack.enter_context(closing(_generation(run, rollouts, rewards, last_step + 1, posterior, health)))
        interim = _interim(run, harness, generation, last_step)
        gpus = stack.enter_context(run_gpus(config, progress.note))
        measured = Measured(rollouts=rollouts, rewards=rewards, memory=role_memory, gpus=gpus.take)
        recorder = stack.enter_context(_recorder(run, learner, measured, interim, health))
        watched_device = WatchedDevice(device, gpus)
        health.connect(generation, watched_device, broadcast, rewards, run_dir / LATEST_ADAPTER)
        if checkpoint is None:
            recorder.note_start()
        else:
            health.begin(last_step, checkpoint.folder, {})
        last = train_grpo(
            generation=generation,
            learner=with_supervised_term(learner, config, run_dir, sets.train, run.encoder),
            device=watched_device,
            broadcast=broadcast,
            recorder=recorder,
            health=health,
            checkpoints=RunCheckpoints(
                store, run.given, run.inputs, learner, rollouts, recorder, fetch_blob, health, posterior
            ),
            stop=stack.enter_context(StopRequest(progress.note, config.run.stop_within_s)),
            first_step=last_step + 1,
            num_steps=config.run.num_steps,
            budget=TokenBudget(config.run.max_generated_tokens, tokens_generated(run_dir)),
            max_dropped_share=config.run.max_dropped_share,
        )
    if not config.evaluation.enabled:
        return None
    progress.phase("evaluation after")
    return evaluation.after(last, start, sets.tune)


def _recorder(
    run: Run, learner: LearnerHandle, measured: Measured, interim: InterimEvaluation, health: RunHealth | None
) -> RunRecorder:
    return RunRecorder(
        run.run_dir,
        num_steps=run.config.run.num_steps,
        learner=learner,
        measured=measured,
        interim=interim,
        health=health,
        progress=run.progress,
        max_log_bytes=run.config.run.max_rollout_log_bytes,
        sinks=record_sinks(run.given, run.run_dir, run.progress.note),
        sources=sources_of(run.sets.train),
        by_terms=run.config.algorithm.advantage_terms == "gdpo",
    )


def _interim(run: Run, harness: Harness, generation: InTurn | Ahead, last_step: int) -> InterimEvaluation:
    settings = run.config.evaluation
    sample, best = interim_questions(run.sets.tune, settings), best_accuracy(run.run_dir, last_step)
    return InterimEvaluation(harness, sample, settings.every_steps, generation.learners_turn, best)


def _forget_later_steps(run: Run, checkpoint: Checkpoint | None) -> None:
    """Forget the records of later steps. Raises UserError when the run's folder is gone, which would be made again."""
    if not is_run(run.run_dir):
        raise gone(run.run_dir)
    state = None if checkpoint is None else checkpoint.state
    if lost := forget_after(run.run_dir, state.step if state else 0, state.metrics_position if state else 0):
        run.progress.note(f"warning: {lost}")


def _install_versions(
    run: Run, checkpoint: Checkpoint | None, learner: LearnerHandle, rollouts: RolloutPool, broadcast: Broadcast
) -> AdapterManifest:
    """Install every adapter that the next steps are generated with; return the one of the run's start."""
    if checkpoint is None:
        start = broadcast.publish(0).manifest
        learner.save_adapter(run.run_dir / START_ADAPTER)
        return start
    restore(checkpoint, rollouts, broadcast.publish, put_blob)
    run.progress.note(f"goes on after step {checkpoint.state.step}")
    return stored_adapter(run.config, run.run_dir / START_ADAPTER)


def _initial_adapter(run: Run, checkpoint: Checkpoint | None) -> Path | None:
    """Return the adapter that GRPO starts from, which may also be the reference of the KL term; None without one."""
    if not run.config.starts_from_adapter:
        return None
    if checkpoint is not None:
        return run.run_dir / START_ADAPTER
    if run.warm_start is None:
        return run.initial_adapter
    run.progress.phase("warm start")
    return warm_start_adapter(run.config, run.model_dir, run.warm_start, run.progress)


def _traces(run: Run) -> TraceWork:
    """Return what the traces of a run that begins are made of."""
    if run.warm_start is not None and run.warm_start.traces is not None:
        return run.warm_start.traces
    return traces_of(run.config, run.model_dir, run.encoder, run.sets, run.initial_adapter)


def _start_actors(run: Run, initial: Path | None) -> tuple[RewardPool, RolloutPool, LearnerHandle]:
    """Start the actors.

    On a shared GPU no engine starts while the learner moves: what is free there decides whether it can.
    """
    config, await_device = run.config, None
    run.progress.phase("start of the actors")
    with ThreadPoolExecutor() as starts:  # each is mostly one thread's work, in its own process
        rewards_start = starts.submit(start_reward_pool, config, run.sets.databases_dir)
        learner_start = starts.submit(start_learner, config, run.model_dir, initial)
        if shares_gpu(config):
            await_device = learner_start.result().await_idle
        if config.cluster.colocation in TAKE_TURNS:
            learner_start.result().release()
        rollouts_start = starts.submit(
            start_rollout_pool,
            config,
            run.model_dir,
            kv_cache_bytes=run.kv_cache_bytes,
            await_device=await_device,
        )
    return rewards_start.result(), rollouts_start.result(), learner_start.result()


def evaluated_questions(config: RunConfig, sets: QuestionSets) -> tuple[Question, ...]:
    """Return the questions that the table is about."""
    settings = config.evaluation
    if not settings.enabled:
        return ()
    return tuple(chosen_questions(sets.split(settings.split), settings.max_questions, settings.choice))


def _generation(
    run: Run, rollouts: Rollouts, rewards: Rewards, first_step: int, posterior: RunPosterior | None, health: RunHealth
) -> InTurn | Ahead:
    config = run.config
    collect = step_collector(config, run.encoder, run.sets, rollouts, rewards, posterior)
    if config.rollout.max_staleness == 0:
        return InTurn(collect)
    shares_device = config.cluster.colocation in TAKE_TURNS
    in_turns = shares_device or not has_spare_cores(config)
    reason = "they share a device" if shares_device else "there are no cores to spare"
    run.progress.note(
        f"generation is up to {config.rollout.max_staleness} steps ahead of the updates"
        + (f", in turns with them: {reason}" if in_turns else "")
    )
    return Ahead(
        collect,
        num_steps=config.run.num_steps,
        max_staleness=config.rollout.max_staleness,
        in_turns=in_turns,
        first_step=first_step,
        oldest_version=health.state.oldest_version,
        # Longer than any single wait of the other side.
        timeout_s=config.cluster.step_timeout_s + config.start_limit_s + config.rollout.stuck_after_s,
    )


def _canary_ids(encoder: PromptEncoder, question: Question) -> tuple[int, ...]:
    """Return the end of the prompt with its answer: text of the kind that the run generates."""
    return (encoder.prompt(question) + encoder.answer(question.gold_sql[0]))[-MAX_CANARY_TOKENS:]


def _long_canary(run: Run) -> GroupRequest:
    """Return what an engine is asked after the longest prompt; the learner has to find the same probabilities."""
    return GroupRequest(
        group_id="the longest prompt",
        question=run.longest,
        prompt_token_ids=run.encoder.training_prompt(run.longest),
        num_samples=NUM_LONG_CANARY_ANSWERS,
        temperature=1.0,
        max_new_tokens=min(LONG_CANARY_TOKENS, run.config.rollout.max_new_tokens),
        seed=0,
    )


def _check_equality(run: Run, device: DeviceTurns, learner: LearnerHandle) -> None:
    """Compare the learner's packed way with the model's own forward on the run's texts, before anything is learned."""
    others = [one for one in run.sets.train if one != run.longest][:2]
    texts = [_with_answers(run.encoder, one) for one in (run.longest, *others)]
    limit_s = max(EQUALITY_LIMIT_S, EQUALITY_SHARE * (run.progress.left_s or 0.0))
    device.to_learner()
    report = learner.check_equality(texts, limit_s)
    device.to_rollouts()
    run.progress.note(
        f"the learner computes the model's own log-probabilities: {report.mean_difference:.2g} nats apart on average, "
        f"gradients {100 * (report.gradient_difference or 0):.2g} %, over {report.num_tokens:,} tokens, the longest "
        f"text {report.longest_text_tokens:,} ({report.seconds:.1f} s)"
    )


def _with_answers(encoder: PromptEncoder, question: Question) -> PromptWithAnswers:
    return PromptWithAnswers.doubled(encoder.training_prompt(question), encoder.answer(question.gold_sql[0]))
