"""Where a run's records go beside `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.reports.ray_metrics import RayMetrics
from cluster.reports.record_sink import RecordSink
from cluster.reports.tensorboard_curves import TensorBoardCurves
from configs.schema import RunConfig


def record_sinks(config: RunConfig, run_dir: Path, note: Callable[[str], None]) -> tuple[RecordSink, ...]:
    """For a driver that is connected to Ray. Raises UserError when a tracker of the configuration can't start."""
    sinks: list[RecordSink] = []
    if config.run.wandb_project is not None:
        from cluster.reports.wandb_run import WandbRun

        sinks.append(WandbRun(config, run_dir))
    if config.run.mlflow_uri is not None:
        from cluster.reports.mlflow_run import MlflowRun

        sinks.append(MlflowRun(config, run_dir, note))
    return (TensorBoardCurves(run_dir), RayMetrics(config.run.name, run_dir.name), *sinks)
