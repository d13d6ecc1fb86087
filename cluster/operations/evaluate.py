"""`floe evaluate`: the figures of one policy, local or behind an endpoint, on a split or a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from floe.cluster.endpoints.evaluation import endpoint_evaluation
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.evaluation.asked_questions import Asked, Benchmark, asked_of_archive, asked_of_split
from floe.cluster.evaluation.harness import Answered, Harness
from floe.cluster.evaluation.records import evaluation_of
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.evaluation.summary import summary
from floe.cluster.exports.adapter_base import other_base_warning
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.operations.time_planning import limited_to_machine
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.precision.resolved import with_precision, with_recorded_precision
from floe.cluster.preparation.clock import with_clock
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
class EvaluateOptions:
    """Options of the command; `data` takes the place of the configuration's split; `predictions` needs it.

    `part` and `databases` are of `data`.
    """

    adapter: Path | None = None
    data: Path | None = None
    part: str | None = None
    databases: Path | None = None
    predictions: Path | None = None
    out: Path | None = None
    as_json: bool = False
    endpoint: EndpointPolicy | None = None  # in place of a local policy


AskedOf = Callable[[RunConfig, Path, Progress], Asked]  # configuration and model folder to questions


def evaluate(config: RunConfig, options: EvaluateOptions) -> None:
    """Print the figures on stdout, as text or as JSON; progress goes to stderr. Raises UserError for bad input."""
    if options.predictions is not None and options.data is None:
        raise UserError("--predictions follows the order of a benchmark's questions file: give its folder with --data.")
    for name in ("part", "databases"):
        if getattr(options, name) is not None and options.data is None:
            raise UserError(f"--{name} belongs to a data set's folder: give that folder with --data.")
    progress = Progress(make_console(stderr=True))
    asked_of: AskedOf = asked_of_split
    if options.data is not None:
        benchmark = Benchmark(folder=options.data, part=options.part, databases_dir=options.databases)
        asked_of = partial(asked_of_archive, benchmark=benchmark)
    if options.endpoint is None:
        asked, evaluation = evaluated(config, options.adapter, asked_of, progress)
    elif options.adapter is not None:
        raise UserError("--adapter and --endpoint name a policy each: give one of them.")
    else:
        asked, evaluation = evaluated_endpoint(config, options.endpoint, asked_of, progress, options.out)
    if options.out is not None:
        progress.note(f"saved: {evaluation.write(options.out)}")
    if options.predictions is not None:
        asked.write_predictions(options.predictions, evaluation.records, progress)
    report = summary(evaluation, config.evaluation.num_bootstrap)
    if options.as_json:
        print(report.to_json(), end="")
    else:
        report.render(make_console())


def evaluated(
    config: RunConfig, adapter: Path | None, asked_of: AskedOf, progress: Progress
) -> tuple[Asked, Evaluation]:
    """Have a policy, the base model without an adapter, answer the questions. Raises UserError for bad input."""
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"There is no adapter folder {adapter}: give one written by PEFT or floe.")
    progress.phase("set-up")
    check_plugins(config)
    model_dir = model_folder(config, config.run.home_dir / "demo")
    if adapter and (warning := other_base_warning(adapter, config.model.path, model_dir)):
        progress.note(warning)
    decided = with_precision(with_recorded_precision(config, adapter), lambda: shape_of(config))
    progress.note(decided.line)
    config = with_clock(
        limited_to_machine(decided.config, progress), adapter, asks_others=asked_of is not asked_of_split
    )
    progress.note(f"SQL gets {config.reward.clock} UTC for the present time (reward.clock)")
    asked = asked_of(config, model_dir, progress)
    answered = _answer(config, model_dir, asked, adapter, progress)
    return asked, evaluation_of(config, asked, answered, adapter)


def evaluated_endpoint(
    config: RunConfig, endpoint: EndpointPolicy, asked_of: AskedOf, progress: Progress, answers_dir: Path | None = None
) -> tuple[Asked, Evaluation]:
    """Have a model behind an endpoint answer the questions, which the configured model's tokenizer fits and trims.

    Answers are kept in `answers_dir`, without it in a folder of `run.home`. Raises UserError for bad input.
    """
    progress.phase("set-up")
    endpoint.key()  # a missing one is said before the prompts are made
    check_plugins(config)
    model_dir = model_folder(config, config.run.home_dir / "demo", weights=False)
    config = with_clock(config, asks_others=asked_of is not asked_of_split)
    progress.note(f"SQL gets {config.reward.clock} UTC for the present time (reward.clock)")
    asked = asked_of(config, model_dir, progress)
    return asked, endpoint_evaluation(config, asked, endpoint, progress, answers_dir)


def _answer(config: RunConfig, model_dir: Path, asked: Asked, adapter: Path | None, progress: Progress) -> Answered:
    with ray_session(config.cluster, namespace="floe-evaluate") as line:
        progress.note(line)
        check_resources(config)
        rollouts, rewards = start_rollout_pool(config, model_dir), start_reward_pool(config, asked.databases_dir)
        num_timings = config.evaluation.num_timings
        harness = Harness(config, asked.encoder, rollouts, rewards, num_timings, progress.answers)
        if adapter is not None:
            rollouts.install(stored_adapter(config, adapter))
        progress.phase(f"evaluation on {len(asked.fitting)} questions")
        version = None if adapter is None else 0
        return harness.answers("", asked.fitting, version, config.evaluation.temperature)
