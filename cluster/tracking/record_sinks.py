"""Makes the sinks of a run's records, in addition to `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from floe.cluster.tracking.ray_metrics import RayMetrics
from floe.cluster.tracking.record_sink import RecordSink
from floe.cluster.tracking.tensorboard_curves import TensorBoardCurves
from floe.configs.schema import RunConfig


def record_sinks(config: RunConfig, run_dir: Path, note: Callable[[str], None]) -> tuple[RecordSink, ...]:
    """Return the sinks for a driver that is connected to Ray.

    Raises UserError when a tracker of the configuration can't start.
    """
    sinks: list[RecordSink] = []
    if config.run.wandb_project is not None:
        from floe.cluster.tracking.wandb_run import WandbRun

        sinks.append(WandbRun(config, run_dir))
    if config.run.mlflow_uri is not None:
        from floe.cluster.tracking.mlflow_run import MlflowRun

        sinks.append(MlflowRun(config, run_dir, note))
    return (TensorBoardCurves(run_dir), RayMetrics(config.run.name, run_dir.name), *sinks)
