"""The checks in their order: all of them for `floe doctor`, the quick ones for `floe train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.exports.initial_adapter import initial_adapter
from floe.cluster.machine.gpus import read_gpus
from floe.cluster.machine.ray_address import check_dashboard_port, cluster_address
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.models.model_folder import model_folder
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.precision.resolved import with_precision, without_measurement
from floe.cluster.preflight import data_checks, machine, model_files, ray_checks, versions
from floe.cluster.preflight.finding import Check, Finding, Level, ok, outcome, stop_at_fault
from floe.cluster.preflight.gpus import gpus
from floe.cluster.preflight.initial_adapter import check_initial_adapter
from floe.cluster.preflight.judge_check import judge_checks
from floe.cluster.preflight.planned_memory import planned_memory
from floe.cluster.preflight.round_trip import adapter_round_trip
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.ray_actors.placement import ray_session
from floe.configs.schema import RunConfig
from floe.learner.optimizer.operator_builds import compiled_extensions_dir

NUM_GOLDS, NUM_PROMPTS = 50, 50
NUM_QUICK_GOLDS, QUICK_LIMIT_S = 3, 0.5

T = TypeVar("T")
Named = tuple[str, Check]


def examine(config: RunConfig) -> Iterator[Finding]:
    """Yield every check's finding, as it is known. Starts its own Ray, or joins the configured one, and leaves it."""
    logs_dir = config.run.home_dir / "logs"
    ask = partial(outcome, logs_dir=logs_dir)
    if config.plugins:
        yield ask("plug-ins", lambda: ok("; ".join(check_plugins(config))))
    yield from (ask(*one) for one in machine_checks(config))
    demo_dir = config.run.home_dir / "demo"
    loaded = _made("questions", partial(sets_of_run, config), _said_of_sets, logs_dir)
    yield loaded[0]
    sets = loaded[1]
    found_model, model_dir = _made("model", partial(model_folder, config, demo_dir, weights=False), str, logs_dir)
    yield found_model
    sound = {}
    for name, check in () if model_dir is None else model_checks(config, model_dir):
        found = ask(name, check)
        sound[name] = found.level is not Level.FAULT
        yield found
    num_weights = 0
    if model_dir is None or not sound["model configuration"]:
        config = without_measurement(config)
    else:
        decide = partial(with_precision, config, partial(shape_of, config))
        decision = _made("precision", decide, lambda made: made.line, logs_dir)
        yield decision[0]
        decided = decision[1]
        config = without_measurement(config) if decided is None else decided.config
        num_weights = model_files.num_adapter_weights(model_dir, config.lora)
        yield ask("memory plan", lambda: planned_memory(config, read_gpus()))
        if config.lora.initial_adapter is not None:
            yield ask("initial adapter", partial(_initial_adapter, config, model_dir))
    yield ask("disk", partial(machine.disk, config, config.run.home_dir / "runs", num_weights))
    if sets is None:
        yield _not_looked_at("databases, golds and prompts", "the questions can't be read")
    else:
        yield from (ask(*one) for one in data_checks_of(config, sets, NUM_GOLDS, config.reward.time_limit_s))
        if model_dir is not None and sound["tokenizer"] and sound["chat template"]:
            yield ask("prompts", partial(_prompt_lengths, config, model_dir, sets))
    yield from _cluster_findings(config, num_weights, logs_dir)


def machine_checks(config: RunConfig) -> tuple[Named, ...]:
    """Yield the checks that need nothing but the configuration; quick, except where a judge is slow."""
    installed = versions.installed_versions()
    needs_operators = config.learner.num_gpus == 0 or config.learner.offload_optimizer
    return (
        ("Python", versions.python_version),
        ("engine", partial(versions.engine, installed)),
        ("engine's device", partial(versions.engine_device, installed, config.rollout.num_gpus)),
        ("libraries", partial(versions.libraries, installed)),
        ("builds", partial(versions.builds_beside_torch, installed)),
        ("operators", partial(versions.deepspeed_operators, compiled_extensions_dir(), needs_operators)),
        ("processor", partial(machine.processor, config)),
        ("threads", partial(machine.threads, config)),
        ("GPU", lambda: gpus(config, read_gpus(), cluster_address(config.cluster) is not None)),
        ("memory", partial(machine.memory, config)),
        ("shared memory", machine.shared_memory),
        ("dashboard port", partial(_dashboard_port, config)),
        *judge_checks(config),
    )


def model_checks(config: RunConfig, model_dir: Path) -> tuple[Named, ...]:
    load = cache(model_files.load_tokenizer)
    return (
        (
            "model configuration",
            partial(
                model_files.model_config,
                model_dir,
                config.model,
                samples_on_cpu=config.rollout.num_gpus == 0,
                plugin_folder=config.run.plugin_folder,
            ),
        ),
        ("model weights", partial(model_files.weights, model_dir, config)),
        ("tokenizer", partial(model_files.tokenizer, model_dir, load)),
        ("chat template", partial(model_files.chat_template, config, model_dir, load)),
    )


def data_checks_of(config: RunConfig, sets: QuestionSets, num_golds: int, time_limit_s: float) -> tuple[Named, ...]:
    golds = partial(data_checks.golds, sets, config.reward, config.run.max_dropped_share, num_golds, time_limit_s)
    return (("databases", partial(data_checks.databases, sets)), ("golds", golds))


class Preflight:
    """Quick checks of a run: warnings are printed, a fault ends it."""

    def __init__(self, config: RunConfig, run_dir: Path, note: Callable[[str], None]) -> None:
        self._config = config
        self._run_dir = run_dir
        self._note = note

    def machine(self) -> None:
        """Check the machine. Raises UserError at a fault."""
        self._stop_at_fault(machine_checks(self._config))

    @contextmanager
    def files(self, model_dir: Path, sets: QuestionSets) -> Iterator[None]:
        """Check the files while the block reads the prompts, and run a few golds meanwhile. Raises UserError."""
        config = self._config
        databases, golds = data_checks_of(config, sets, NUM_QUICK_GOLDS, QUICK_LIMIT_S)
        self._stop_at_fault((*model_checks(config, model_dir), databases))
        num_weights = model_files.num_adapter_weights(model_dir, config.lora)
        self._stop_at_fault((("disk", partial(machine.disk, config, self._run_dir, num_weights)),))
        with ThreadPoolExecutor(1) as beside:
            found = beside.submit(outcome, *golds, self._run_dir)
            yield
            stop_at_fault([found.result()], self._note)

    def _stop_at_fault(self, checks: tuple[Named, ...]) -> None:
        stop_at_fault([outcome(name, check, self._run_dir) for name, check in checks], self._note)


def _cluster_findings(config: RunConfig, num_adapter_weights: int, logs_dir: Path) -> Iterator[Finding]:
    # Memory and port have separate lines.
    section = config.cluster.model_copy(update={"min_free_memory_gib": 0.0, "dashboard_port": None})
    with ExitStack() as stack:
        found, line = _made("Ray", lambda: stack.enter_context(ray_session(section, "floe-doctor")), str, logs_dir)
        yield found
        if line is None:
            yield _not_looked_at("Ray resources, object store and adapter round trip", "there is no Ray")
            return
        for name, check in (
            ("Ray resources", ray_checks.resources),
            ("free resources", ray_checks.free_resources),
            ("object store", partial(ray_checks.object_store, num_adapter_weights=num_adapter_weights)),
            ("adapter round trip", adapter_round_trip),
        ):
            yield outcome(name, partial(check, config), logs_dir)


def _made(name: str, make: Callable[[], T], said: Callable[[T], str], logs_dir: Path) -> tuple[Finding, T | None]:
    """Return what later checks need, and the finding of making it."""
    made: list[T] = []

    def check() -> Finding:
        made.append(make())
        return ok(said(made[0]))

    return outcome(name, check, logs_dir), made[0] if made else None


def _not_looked_at(what: str, why: str) -> Finding:
    return Finding(
        name=what, level=Level.WARNING, what=f"not checked, because {why}", remedy="fix that, and run it again"
    )


def _said_of_sets(sets: QuestionSets) -> str:
    return f"{len(sets.train)} to train on, {len(sets.tune)} and {len(sets.test)} held back"


def _initial_adapter(config: RunConfig, model_dir: Path) -> Finding:
    """Check the adapter that the run starts from. Raises UserError."""
    folder = initial_adapter(config)
    assert folder is not None
    return ok(check_initial_adapter(config, folder, model_dir))


def _prompt_lengths(config: RunConfig, model_dir: Path, sets: QuestionSets) -> Finding:
    encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    return data_checks.prompt_lengths(sets, encoder, config.max_prompt_tokens, NUM_PROMPTS)


def _dashboard_port(config: RunConfig) -> Finding:
    """Check the port. Raises UserError."""
    port = config.cluster.dashboard_port
    if cluster_address(config.cluster) is not None:
        return ok("the joined cluster's own")
    if port is None:
        return ok("no dashboard is asked for")
    check_dashboard_port(config.cluster)
    return ok(f"{port} is free")
