"""Weights & Biases (offline) and MLflow (a folder, and servers that are not there) get the records of a run."""

import importlib.util
import json
import os
import struct
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from floe.cluster.run_folder.file_names import TRACKERS_FILE
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.tracking.mlflow_run import MlflowRun, check_answers
from floe.cluster.tracking.record_sink import RunEnd
from floe.cluster.tracking.trackers import check_trackers, tracker_id
from floe.configs.errors import Interrupted, UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunSection

SECRET = "5ecre7" * 6 + "abcd"  # as long as a key of W&B

WRITTEN_LIMIT_S = 600


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)


def config(*overrides: str):
    return load_config(None, overrides)


def files_with(secret: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_mlflow_gets_records_and_goes_on_with_the_same_run(tmp_path):
    from mlflow.tracking import MlflowClient

    run_dir, store = tmp_path / "small-1", tmp_path / "store"
    run_dir.mkdir()
    given = config(f"run.mlflow_uri={store}", "run.name=small")
    notes: list[str] = []
    first = MlflowRun(given, run_dir, notes.append)
    first.write(1, {"reward_mean": 0.25, "kl": None})
    first.write(2, {"reward_mean": 0.5})
    first.close(RunEnd.FAILED)
    first.close(RunEnd.FAILED)
    run_id = tracker_id(run_dir, "mlflow")
    client = MlflowClient(tracking_uri=str(store))
    assert client.get_run(run_id).info.status == "FAILED"
    second = MlflowRun(given, run_dir, notes.append)
    second.write(3, {"reward_mean": 0.75})
    second.close(RunEnd.FINISHED)
    assert tracker_id(run_dir, "mlflow") == run_id and not notes
    found = client.get_run(run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "small-1")
    assert found.data.params["rollout.group_size"] == "16"
    points = [(point.step, point.value) for point in client.get_metric_history(run_id, "reward_mean")]
    assert sorted(points) == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert "kl" not in found.data.metrics
    assert len(client.search_runs([found.info.experiment_id])) == 1
    assert not files_with(SECRET, tmp_path)


def test_mlflow_goes_on_in_the_folder_of_the_runs_beginning_from_anywhere(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    ids = []
    for folder in (run_dir, tmp_path / "monday", tmp_path / "tuesday"):
        folder.mkdir()
    for folder in ("monday", "tuesday"):
        monkeypatch.chdir(tmp_path / folder)
        sink = MlflowRun(config("run.mlflow_uri=mlruns"), run_dir, print)
        sink.write(1, {"reward_mean": 0.25})
        sink.close(RunEnd.INTERRUPTED)
        ids.append(tracker_id(run_dir, "mlflow"))
    assert ids[0] == ids[1]
    assert (tmp_path / "monday" / "mlruns").is_dir() and not (tmp_path / "tuesday" / "mlruns").exists()


@pytest.mark.parametrize(("fault", "state"), [
    (None, "FINISHED"),
    (Interrupted("stopped after step 2"), "KILLED"),
    (KeyboardInterrupt(), "KILLED"),
    (SystemExit(15), "KILLED"),
    (UserError("no room"), "FAILED"),
])  # fmt: skip
def test_mlflow_says_how_the_run_ended(tmp_path, fault, state):
    from mlflow.tracking import MlflowClient

    sink = MlflowRun(config(f"run.mlflow_uri={tmp_path / 'store'}"), tmp_path, print)
    with suppress(type(fault) if fault else ()), MetricsLog(tmp_path / "run", [sink]):
        if fault:
            raise fault
    client = MlflowClient(tracking_uri=str(tmp_path / "store"))
    assert client.get_run(tracker_id(tmp_path, "mlflow")).info.status == state


def test_what_mlflow_refuses_is_said_and_sent_again(tmp_path, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    run_dir, notes = tmp_path / "run", []
    run_dir.mkdir()
    sink = MlflowRun(config(f"run.mlflow_uri={tmp_path / 'store'}"), run_dir, notes.append)
    log_batch, num_calls = MlflowClient.log_batch, 0

    def refuse_once(self, *args, **kwargs):
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            raise MlflowException("the server is being restarted")
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", refuse_once)
    sink.write(1, {"loss": 0.5})
    sink.close(RunEnd.FINISHED)
    assert len(notes) == 1 and "the server is being restarted" in notes[0]
    history = MlflowClient(tracking_uri=str(tmp_path / "store")).get_metric_history(
        tracker_id(run_dir, "mlflow"), "loss"
    )
    assert [point.value for point in history] == [0.5]


def test_a_server_that_is_not_there_is_said_at_once(tmp_path):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9"):
        MlflowRun(config("run.mlflow_uri=http://127.0.0.1:9"), tmp_path, print)


class Proxy(BaseHTTPRequestHandler):
    """Knows one name that can be reached in no other way."""

    def do_GET(self):
        self.send_response(200 if self.path.startswith("http://mlflow.invalid:5000/") else 502)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


def test_a_server_behind_a_proxy_is_asked_by_the_proxy(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        check_answers("http://mlflow.invalid:5000")
        with pytest.raises(UserError, match=r"a gateway says 502.*NO_PROXY"):
            check_answers("http://other.invalid:5000")
        server.shutdown()


@pytest.mark.heavy
def test_wandb_keeps_records_offline_and_goes_on_with_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    from floe.cluster.tracking.wandb_run import WandbRun

    given = config("run.wandb_project=sql")
    for step in (1, 2):
        sink = WandbRun(given, tmp_path)
        sink.write(step, {"reward_mean": 0.25, "kl": None})
        sink.close(RunEnd.INTERRUPTED if step == 1 else RunEnd.FINISHED)
        sink.close(RunEnd.FINISHED)
    run_id = json.loads((tmp_path / TRACKERS_FILE).read_text())["wandb"]
    stored = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in stored] == [f"run-{run_id}.wandb"] * 2
    deadline = time.monotonic() + WRITTEN_LIMIT_S
    while not all(is_whole(path) for path in stored):
        assert time.monotonic() < deadline, "a record of the end is missing"
        time.sleep(0.1)
    history = [records_of(path) for path in stored]
    assert [steps for steps, _ in history] == [[1], [2]]
    assert all(values == {"reward_mean": 0.25} for _, one in history for values in one)
    assert [exit_code_of(path) for path in stored] == [255, 0]
    assert not files_with(SECRET, tmp_path)


def exit_code_of(path: Path) -> int:
    return next(record.exit.exit_code for record in wandb_records(path) if record.WhichOneof("record_type") == "exit")


def records_of(path: Path) -> tuple[list[int], list[dict]]:
    """Return steps, and their other values, of a file that wandb wrote."""
    steps, values = [], []
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            steps.append(items["step"])
            values.append({key: value for key, value in items.items() if key != "step" and not key.startswith("_")})
    return steps, values


def is_whole(path: Path) -> bool:
    """Return whether it is whole: W&B's own process may still write when its `finish` returns."""
    return any(record.WhichOneof("record_type") == "exit" for record in wandb_records(path))


def wandb_records(path: Path) -> list:
    from wandb.proto.wandb_internal_pb2 import Record

    return [Record.FromString(data) for data in stored_records(path.read_bytes())]


def stored_records(data: bytes) -> list[bytes]:
    """Read LevelDB's log format (its doc/log_format.md) after W&B's own 7 bytes.

    Pieces lie in blocks of 32 KiB, each behind its checksum (4 bytes), length (2) and kind (1: whole, 2 to 4: first,
    middle, last).
    """
    found, place, begun = [], 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        piece = data[place + 7 : place + 7 + length]
        if len(piece) < length:
            break  # W&B's own process is still writing it
        begun += piece
        place += 7 + length
        if kind in (1, 4):
            found.append(begun)
            begun = b""
    return found


@pytest.mark.parametrize(("key", "value", "package"), [
    ("wandb_project", "sql", "wandb"),
    ("mlflow_uri", "http://localhost:5000", "mlflow"),
])  # fmt: skip
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, key, value, package):
    check_trackers(RunSection(**{key: value}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_trackers(RunSection())
    with pytest.raises(UserError, match=rf"run\.{key} .*pip install 'floe-rl\[{package}\]'"):
        check_trackers(RunSection(**{key: value}))


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as refusal:
        config(f"run.mlflow_uri=https://me:{SECRET}@tracking.example.org")
    assert SECRET not in str(refusal.value)


def test_the_trackers_cost_nothing_when_they_are_not_used():
    assert os.environ.get("WANDB_API_KEY") == SECRET  # set, and yet not a reason to start
    code = "import sys, floe.cluster.tracking.record_sinks; assert not {'wandb', 'mlflow'} & set(sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
