"""A configuration with `model.dtype` and `rollout.dtype` decided: recorded ones hold, open ones are measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.cluster.machine.cores import num_cores
from floe.cluster.machine.processor import has_bfloat16, processor_name
from floe.cluster.machine.ray_address import cluster_address
from floe.cluster.memory_plan import ModelShape
from floe.cluster.precision.decision import AUTO, decide
from floe.cluster.precision.measurement import measure_cpu, read_gpu
from floe.cluster.precision.rates import BFLOAT16, FLOAT32, Machine
from floe.cluster.ray_actors.placement import ray_session
from floe.cluster.run_folder.layout import recorded_config
from floe.configs.schema import RunConfig

UNKNOWN_CARD = Machine(name="no GPU is found here, one is assumed", has_bfloat16=True, is_gpu=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A configuration whose precisions are decided; the machines are empty where nothing was left open."""

    config: RunConfig
    line: str
    learners: tuple[Machine, ...]
    engines: tuple[Machine, ...]


def with_precision(config: RunConfig, shape: Callable[[], ModelShape]) -> Decided:
    """Decide both precisions, and say which and why in one line.

    On a cluster that is joined every node is measured, and the slowest decides for all. Raises UserError when the model
    or the cluster can't be reached.
    """
    is_open = AUTO in (config.model.dtype, config.rollout.dtype)
    learners, engines = _machines(config, shape()) if is_open else ((), ())
    decision = decide(config.model.dtype, config.rollout.dtype, learners, engines, _allowed(config))
    decided = with_dtypes(config, decision.model_dtype, decision.rollout_dtype)
    return Decided(config=decided, line=decision.line, learners=learners, engines=engines)


def without_measurement(config: RunConfig) -> RunConfig:
    """Return the configuration as the processor's own word decides, where there is no model to measure with."""
    machine = Machine(name=processor_name(), has_bfloat16=has_bfloat16())
    found = decide(config.model.dtype, config.rollout.dtype, (machine,), (machine,), _allowed(config))
    return with_dtypes(config, found.model_dtype, found.rollout_dtype)


def with_recorded_precision(config: RunConfig, adapter: Path | None) -> RunConfig:
    """Fill what the configuration leaves open from the run of this adapter; without a run nothing changes."""
    recorded = None if adapter is None else recorded_config(adapter)
    return config if recorded is None else with_saved_precision(config, recorded.model_dump(mode="json"))


def with_saved_precision(config: RunConfig, saved: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Fill what the configuration leaves open from a saved one.

    A saved one without `rollout.dtype` is of a version whose engine computed in the learner's.
    """
    learner = saved.get("model", {}).get("dtype", AUTO)
    engine = saved.get("rollout", {}).get("dtype", learner)
    return with_dtypes(
        config,
        learner if config.model.dtype == AUTO else config.model.dtype,
        engine if config.rollout.dtype == AUTO else config.rollout.dtype,
    )


def with_dtypes(config: RunConfig, model_dtype: str, rollout_dtype: str) -> RunConfig:
    sections = {
        "model": config.model.model_copy(update={"dtype": model_dtype}),
        "rollout": config.rollout.model_copy(update={"dtype": rollout_dtype}),
    }
    return config.model_copy(update=sections)


def _allowed(config: RunConfig) -> tuple[str, ...]:
    """Return the allowed precisions: DeepSpeed keeps no float32 master of bfloat16 weights at stage 0."""
    return (FLOAT32,) if config.learner.zero_stage == 0 else (BFLOAT16, FLOAT32)


def _machines(config: RunConfig, shape: ModelShape) -> tuple[tuple[Machine, ...], tuple[Machine, ...]]:
    """Return the machines that learners may run on, and those that engines may."""
    num_threads = config.learner.num_threads or num_cores()
    if cluster_address(config.cluster) is not None:
        from floe.cluster.precision.node_readings import machines_of_nodes

        with ray_session(config.cluster, namespace="floe-precision"):
            processors, cards = machines_of_nodes(shape, num_threads, config.start_limit_s)
    else:
        needs_processor = config.learner.num_gpus == 0 or config.rollout.num_gpus == 0
        processors = (measure_cpu(shape, num_threads),) if needs_processor else ()
        card = read_gpu()
        cards = () if card is None else (card,)
    cards = cards or (UNKNOWN_CARD,)
    return (
        cards if config.learner.num_gpus > 0 else processors,
        cards if config.rollout.num_gpus > 0 else processors,
    )
