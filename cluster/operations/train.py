"""`floe train`: set-up, warm start, GRPO, the before/after table; from the beginning or from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.checkpoints.inputs import inputs_of
from floe.cluster.checkpoints.resume_rules import (
    changed_libraries,
    check_inputs,
    check_resume,
    with_saved_adapter,
    with_saved_decisions,
)
from floe.cluster.checkpoints.state import RunInputs, library_versions
from floe.cluster.checkpoints.store import Checkpoint, CheckpointStore
from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.during_training import check_held_back, interim_questions
from floe.cluster.evaluation.plain_words import all_zero
from floe.cluster.exports.initial_adapter import AdapterGoneError, initial_adapter
from floe.cluster.memory_plan.colocate import Colocated, with_colocation
from floe.cluster.memory_plan.of_machine import plan_at_start
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.smallest_card import smallest_card_bytes
from floe.cluster.operations.time_planning import limited_run
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.precision.resolved import with_precision
from floe.cluster.preflight.examination import Preflight
from floe.cluster.preflight.initial_adapter import check_initial_adapter
from floe.cluster.preparation.clock import with_clock
from floe.cluster.questions.epochs import epochs_sentence, num_asked_in_epoch, with_num_steps
from floe.cluster.questions.fitting import encoder_of_run, fitting_questions, longest_prompt
from floe.cluster.report_page.step_series import parse_metrics
from floe.cluster.run_folder.file_names import CONFIG_FILE, METRICS_FILE, REPORT_FILE, START_ADAPTER
from floe.cluster.run_folder.lock import run_lock
from floe.cluster.terminal.live_terminal import live_view
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.tracking.trackers import check_trackers
from floe.cluster.training.attempt import Run, evaluated_questions
from floe.cluster.training.attempts import train_until_done
from floe.cluster.training.run_watch import run_watch
from floe.cluster.training.supervised_alone import train_supervised
from floe.cluster.training.warm_start import warm_start_of
from floe.configs.files.loading import dump_config
from floe.configs.files.whole_files import write_whole
from floe.configs.schema import RunConfig


def train(config: RunConfig, run_dir: Path) -> None:
    """Train as `trained` does, and print the table and the folder."""
    progress = Progress(make_console(), config.run.known_num_steps or 0)
    _show(trained(config, run_dir, progress), run_dir, progress)


def resume(config: RunConfig, run_dir: Path) -> None:
    """Continue as `resumed` does, and print the table and the folder."""
    progress = Progress(make_console(), config.run.known_num_steps or 0)
    _show(resumed(config, run_dir, progress), run_dir, progress)


def trained(config: RunConfig, run_dir: Path, progress: Progress) -> EvaluationReport | None:
    """Train the whole run into an existing folder and return its table; None for a run without evaluation.

    Raises UserError for what the user can fix.
    """
    with run_lock(run_dir):
        dump_config(config, run_dir / CONFIG_FILE)
        with live_view(progress), run_watch(run_dir, config.run.known_num_steps or 0, progress):
            return _run(config, run_dir, progress)


def resumed(config: RunConfig, run_dir: Path, progress: Progress) -> EvaluationReport | None:
    """Continue from the run's newest checkpoint, or from its beginning when it has none.

    Raises UserError when the configuration would make it another run.
    """
    with run_lock(run_dir), live_view(progress), run_watch(run_dir, config.run.known_num_steps or 0, progress):
        checkpoint = _store(config, run_dir, progress).newest()
        if checkpoint is not None:
            saved = checkpoint.state.configuration
            config = with_saved_decisions(config, saved)
            for line in check_resume(checkpoint.state.configuration, config):
                progress.note(line)
            for line in changed_libraries(checkpoint.state.library_versions, library_versions()):
                progress.note(f"warning: {line}")
        dump_config(config, run_dir / CONFIG_FILE)
        return _run(config, run_dir, progress)


def _run(config: RunConfig, run_dir: Path, progress: Progress) -> EvaluationReport | None:
    """Do everything between the configuration and the table."""
    progress.phase("set-up")
    check_trackers(config.run)
    progress.note(f"run folder {run_dir}")
    for line in check_plugins(config):
        progress.note(line)
    preflight = Preflight(config, run_dir, progress.note)
    preflight.machine()
    demo_dir = config.run.home_dir / "demo"
    sets = sets_of_run(config, progress.note)
    model_dir = model_folder(config, demo_dir)
    progress.note(f"model {model_dir}, databases {sets.databases_dir}")
    placed = _decided(config, run_dir, progress)
    config = placed.config
    store = _store(config, run_dir, progress)
    with preflight.files(model_dir, sets):
        initial = _initial_adapter(config, model_dir, store, progress)
        encoder = encoder_of_run(config, model_dir, sets.databases_dir)
        sets = fitting_questions(sets, encoder, config, progress)
    check_held_back(sets.train, [*evaluated_questions(config, sets), *interim_questions(sets.tune, config.evaluation)])
    inputs, checkpoint = inputs_of(config, model_dir, sets, initial), store.newest()
    if checkpoint is not None:
        inputs = _checked_inputs(config, checkpoint, inputs, progress)
    config = _with_steps(config, run_dir, num_asked_in_epoch(config, sets.train), progress)
    num_done = 0 if checkpoint is None else checkpoint.state.step
    if num_done >= config.run.num_steps > 0 and not config.evaluation.enabled:
        progress.note(f"all {num_done} steps are done: nothing is left to do")
        progress.finished()
        return None
    needs_it = _needs_warm_start(config, checkpoint)
    warm_start = warm_start_of(config, model_dir, encoder, sets, initial) if needs_it else None
    run = Run(
        config=limited_run(config, encoder, sets, warm_start, run_dir, progress, num_done),
        given=config,
        inputs=inputs,
        warm_start=warm_start,
        initial_adapter=initial,
        run_dir=run_dir,
        model_dir=model_dir,
        encoder=encoder,
        sets=sets,
        progress=progress,
        longest=longest_prompt(encoder, sets.train),
        kv_cache_bytes=placed.kv_cache_bytes,
    )
    report = None
    if config.run.num_steps == 0:
        train_supervised(run)
    else:
        report = train_until_done(run, store)
    progress.finished()
    if report is not None:
        write_whole(run_dir / REPORT_FILE, report.to_json())
    return report


def _decided(config: RunConfig, run_dir: Path, progress: Progress) -> Colocated:
    """Return the configuration with its precision, clock and colocation, which are decided and said here."""
    decided = with_precision(config, lambda: shape_of(config))
    config = with_clock(decided.config)
    progress.note(decided.line)
    dump_config(config, run_dir / CONFIG_FILE)  # a resume and later evaluations take the same precision and clock
    placed = with_colocation(config, lambda: shape_of(config), lambda: smallest_card_bytes(config), plan_at_start)
    progress.note(placed.line)
    return placed


def _needs_warm_start(config: RunConfig, checkpoint: Checkpoint | None) -> bool:
    """Return whether the warm start is looked at: with a checkpoint not one on traces, whose file may be gone."""
    return config.warm_start.enabled and (checkpoint is None or config.warm_start.source == "golds")


def _with_steps(config: RunConfig, run_dir: Path, num_questions: int, progress: Progress) -> RunConfig:
    """Return the configuration with the steps of its epochs, which are known from here on, and say how many."""
    if config.run.num_epochs is None:
        return config
    config = with_num_steps(config, num_questions)
    dump_config(config, run_dir / CONFIG_FILE)
    progress.num_steps = config.run.num_steps
    progress.note(epochs_sentence(config, num_questions))
    return config


def _initial_adapter(config: RunConfig, model_dir: Path, store: CheckpointStore, progress: Progress) -> Path | None:
    """Return the checked adapter that the run starts from; None without one, or where a started run's is gone.

    Raises UserError for one that the run can't start from.
    """
    try:
        folder = initial_adapter(config)
    except AdapterGoneError as fault:
        if store.newest() is None:
            raise
        progress.note(f"warning: {fault} This run goes on from its own copy, {START_ADAPTER}.")
        return None
    if folder is not None:
        progress.note(f"starts from the adapter {check_initial_adapter(config, folder, model_dir)}")
    return folder


def _checked_inputs(config: RunConfig, checkpoint: Checkpoint, found: RunInputs, progress: Progress) -> RunInputs:
    """Return the inputs for later checkpoints. Raises UserError where they are not those of the checkpoint."""
    may_change = config.run.takes_changed_plugins
    for line in check_inputs(checkpoint.state, found, takes_changed_plugins=may_change):
        progress.note(f"warning: {line}")
    return with_saved_adapter(found, checkpoint.state)


def _show(report: EvaluationReport | None, run_dir: Path, progress: Progress) -> None:
    """Show the table and the folder, as the last thing on the screen."""
    if report is not None:
        report.render(progress.console)
    if nothing_learned := _nothing_learned(run_dir):
        progress.console.print(nothing_learned, soft_wrap=True)
    progress.note(f"files of the run: {run_dir}")


def _nothing_learned(run_dir: Path) -> str:
    """Return a line for a run whose rewards were all 0."""
    path = run_dir / METRICS_FILE
    if not path.is_file():
        return ""
    series = parse_metrics(path.read_text(encoding="utf-8", errors="replace"))
    return all_zero(series.column("reward_mean"), series.column("zero_variance_share"))


def _store(config: RunConfig, run_dir: Path, progress: Progress) -> CheckpointStore:
    return CheckpointStore(run_dir, config.run.keep_checkpoints, progress.note)
