"""`floe prepare … --measure-pass-rate CONFIG`: how often the starting policy answers each training question right."""

from __future__ import annotations

from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.pass_rates import PASS_RATES_FILE, write_pass_rates
from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.evaluation.harness import Harness
from floe.cluster.exports.initial_adapter import initial_adapter
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.time_planning import limited_to_machine
from floe.cluster.precision.resolved import with_precision
from floe.cluster.preflight.initial_adapter import check_initial_adapter
from floe.cluster.preparation.clock import with_clock
from floe.cluster.questions.fitting import encoder_of_run, fitting_questions
from floe.cluster.ray_actors.placement import (
    check_resources,
    ray_session,
    start_reward_pool,
    start_rollout_pool,
    stored_adapter,
)
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.tracking.running_pass_rates import with_groups
from floe.cluster.training.warm_start import warm_start_adapter, warm_start_of
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def measure_pass_rate(config: RunConfig) -> Path:
    """Write `pass_rates.json` into the prepared folder of `config.data`, and print a summary on stderr.

    Samples `evaluation.num_samples` answers at `rollout.temperature` from the policy that training would start with.
    Raises UserError when nothing could be judged.
    """
    prepared = config.data.prepared
    assert prepared is not None
    progress = Progress(make_console(stderr=True))
    progress.phase("pass rates of the starting policy")
    model_dir = model_folder(config, config.run.home_dir / "demo")
    decided = with_precision(config, lambda: shape_of(config))
    progress.note(decided.line)
    config = with_clock(limited_to_machine(decided.config, progress))
    everything = config.model_copy(
        update={"data": config.data.model_copy(update={"filter_by_pass_rate": False, "sampler": "uniform"})}
    )
    sets = sets_of_run(everything)
    encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    sets = fitting_questions(sets, encoder, config, progress)
    with ray_session(config.cluster, namespace="floe-pass-rates") as line:
        progress.note(line)
        check_resources(config)
        adapter = _starting_adapter(config, model_dir, encoder, sets, progress)
        rollouts, rewards = start_rollout_pool(config, model_dir), start_reward_pool(config, sets.databases_dir)
        if adapter is not None:
            rollouts.install(stored_adapter(config, adapter))
        harness = Harness(config, encoder, rollouts, rewards, note_answers=progress.answers)
        version = None if adapter is None else 0
        groups = harness.sampled(sets.train, version, config.rollout.temperature, "pass rate")
    rates = with_groups({}, groups)
    if not rates:
        raise UserError("No answer to a training question could be judged: see the reasons with floe score.")
    path = prepared.expanduser().resolve() / PASS_RATES_FILE
    write_pass_rates(path, rates)
    shares = [rate.share for rate in rates.values()]
    between = sum(0 < share < 1 for share in shares)
    progress.note(
        f"{len(rates)} questions: {between} between 0 and 1, {shares.count(0.0)} never and {shares.count(1.0)} always "
        f"right of {config.evaluation.num_samples}; {path}"
    )
    return path


def _starting_adapter(
    config: RunConfig, model_dir: Path, encoder: PromptEncoder, sets: QuestionSets, progress: Progress
) -> Path | None:
    given = initial_adapter(config)
    if given is not None:
        progress.note(f"starts from the adapter {check_initial_adapter(config, given, model_dir)}")
    if not config.warm_start.enabled:
        return given
    wanted = warm_start_of(config, model_dir, encoder, sets, given)
    return warm_start_adapter(config, model_dir, wanted, progress)
