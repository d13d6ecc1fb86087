"""MLflow: one run there for each run folder, however often it is resumed."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from floe.cluster.tracking.record_sink import RunEnd, Values
from floe.cluster.tracking.trackers import keep_tracker_id, tracker_id
from floe.configs.errors import UserError, first_line
from floe.configs.schema import RunConfig

TRACKER, STORE = "mlflow", "mlflow folder"  # what is kept of them in the run folder
STATES = {RunEnd.FINISHED: "FINISHED", RunEnd.INTERRUPTED: "KILLED", RunEnd.FAILED: "FAILED"}
PROBE_TIMEOUT_S = 10.0
UNREACHED = (502, 503, 504)  # what a gateway answers in place of a server that is not there
CLOSE_LIMIT_S = 60.0  # for records that the server has not taken yet
MAX_METRICS_PER_CALL = 1000  # MLflow's own limit


class MlflowRun:
    """Sends the records from a thread, so that a slow server delays no step.

    What the server refuses is reported and sent again with the next record. A step that is made again after a resume is
    sent again.
    """

    def __init__(self, config: RunConfig, run_dir: Path, note: Callable[[str], None]) -> None:
        """Start the run. Raises UserError when nothing answers at `run.mlflow_uri`."""
        uri = config.run.mlflow_uri
        assert uri is not None
        uri = _store_of_run(run_dir, uri)
        check_answers(uri)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder in place of a server
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._refusals: type[Exception] = MlflowException
        self._note = note
        self._client = MlflowClient(tracking_uri=uri)
        try:
            self._run_id = self._go_on(run_dir) or self._begin(config, run_dir)
        except MlflowException as fault:
            raise UserError(
                f"MLflow at run.mlflow_uri {uri} refused the run ({first_line(fault)}): fix that, or leave the key out."
            ) from fault
        self._unsent: list[Any] = []
        self._records: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        self._end = RunEnd.FINISHED
        self._is_closed = False
        self._thread = threading.Thread(target=self._send_all, name="mlflow", daemon=True)
        self._thread.start()

    def write(self, step: int, values: Values) -> None:
        from mlflow.entities import Metric

        now_ms = int(1000 * time.time())
        self._records.put(
            [Metric(name, float(value), now_ms, step) for name, value in values.items() if value is not None]
        )

    def close(self, end: RunEnd) -> None:
        """Close the run; wait for a slow server, within a limit."""
        if self._is_closed:
            return
        self._is_closed, self._end = True, end
        self._records.put(None)
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive() or self._unsent:
            self._note("MLflow has not taken the last records; metrics.jsonl has them all")

    def _go_on(self, run_dir: Path) -> str | None:
        run_id = tracker_id(run_dir, TRACKER)
        if run_id is not None:
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _begin(self, config: RunConfig, run_dir: Path) -> str:
        from mlflow.entities import Param

        name = config.run.name
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        run_id: str = self._client.create_run(experiment_id, run_name=run_dir.name).info.run_id
        sections = config.model_dump(mode="json").items()
        params = [Param(f"{section}.{key}", str(value)) for section, keys in sections for key, value in keys.items()]
        self._client.log_batch(run_id, params=params[:100])
        self._client.log_batch(run_id, params=params[100:])
        keep_tracker_id(run_dir, TRACKER, run_id)
        return run_id

    def _send_all(self) -> None:
        while (record := self._records.get()) is not None:
            self._unsent += record
            self._try(self._send)
        self._try(self._send)
        self._try(lambda: self._client.set_terminated(self._run_id, STATES[self._end]))

    def _send(self) -> None:
        while self._unsent:
            self._client.log_batch(self._run_id, metrics=self._unsent[:MAX_METRICS_PER_CALL])
            del self._unsent[:MAX_METRICS_PER_CALL]

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except self._refusals as fault:
            self._note(f"MLflow does not take the records ({first_line(fault)}); they wait for the next step's")


def _store_of_run(run_dir: Path, uri: str) -> str:
    """Return the store: a run that began with a folder stays there, whatever a relative path means today."""
    if not uri.startswith("/"):
        return uri
    known = tracker_id(run_dir, STORE)
    if known is None:
        keep_tracker_id(run_dir, STORE, uri)
        return uri
    return known if Path(known).is_dir() else uri


def check_answers(uri: str) -> None:
    """Raise UserError when no server answers at an http address: MLflow itself would try for minutes.

    It is asked as MLflow does, by a proxy that the environment names. A refused certificate counts as an answer,
    because MLflow's own settings decide about it.
    """
    import requests

    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S, allow_redirects=False)
        silence = f"a gateway says {answer.status_code}" if answer.status_code in UNREACHED else ""
    except requests.exceptions.SSLError:
        return
    except (requests.exceptions.RequestException, ValueError) as fault:
        silence = _reason(fault)
    if silence:
        raise UserError(
            f"No MLflow server answers at run.mlflow_uri {uri} ({silence}): start it, set NO_PROXY where a proxy is in "
            "the way, or leave the key out."
        )


def _reason(fault: BaseException) -> str:
    """Return the connection's own error, which the library wraps several times."""
    while (inner := fault.__cause__ or fault.__context__) is not None:
        fault = inner
    return getattr(fault, "strerror", None) or first_line(fault)
