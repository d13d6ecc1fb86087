"""What a user can cause ends in one plain sentence and exit code 2, without a trace on the first screen."""

import json
import socket
from pathlib import Path

import pytest

from actors.demo.build import write_demo
from tests.command_line import config, floe


def complaint(home, *arguments: str) -> str:
    done = floe("train", "--config", config("smoke.yaml"), "cluster.address=local", *arguments, home=home)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    sentences = [line for line in lines if line.startswith("floe: ")]
    assert len(sentences) == 1, done.stderr
    logs = [Path(line.removeprefix("  log: ")) for line in lines if line.startswith("  log: ")]
    assert len(logs) <= 1 and all("Traceback" in log.read_text() for log in logs)
    return sentences[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_demo(folder)
    return folder


def as_files(folder) -> list[str]:
    return ["data.source=files", f"data.questions={folder / 'train.json'}", f"data.databases={folder / 'databases'}"]


def test_wrong_value(home):
    assert "rollout.group_size" in complaint(home, "rollout.group_size=0")


def test_unknown_key_names_the_nearest(home):
    assert "rollout.group_size" in complaint(home, "rollout.group_sise=8")


def test_unknown_model_path(home):
    assert "/no/such/model" in complaint(home, "model.path=/no/such/model")


def test_unknown_embedded_model(home):
    assert "embedded:nothing" in complaint(home, "model.path=embedded:nothing")


def test_unreadable_questions(home, files, tmp_path):
    broken = tmp_path / "questions.json"
    broken.write_text("[{]")
    assert str(broken) in complaint(home, *as_files(files), f"data.questions={broken}")


def test_missing_database(home, files, tmp_path):
    lone = tmp_path / "questions.json"
    lone.write_text(json.dumps([{"db_id": "nowhere", "question": "How many?", "query": "SELECT 1"}]))
    assert "nowhere" in complaint(home, *as_files(files), f"data.questions={lone}")


def test_missing_databases_folder(home, files):
    assert "/no/such/folder" in complaint(home, *as_files(files), "data.databases=/no/such/folder")


@pytest.mark.engine
def test_too_little_memory(home, smoke_run):
    assert "GiB" in complaint(home, "cluster.min_free_memory_gib=1000000")


@pytest.mark.engine
def test_busy_dashboard_port(home, smoke_run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in complaint(home, f"cluster.dashboard_port={port}")


@pytest.mark.engine
def test_more_resources_than_the_cluster_has(home, smoke_run):
    assert "CPU" in complaint(home, "reward.num_workers=1000")


@pytest.mark.engine
def test_no_cluster_at_the_address(home, smoke_run):
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{unanswered.getsockname()[1]}"
        assert f"No Ray cluster answers at {address}" in complaint(home, f"cluster.address={address}")


def test_prompts_that_are_all_too_long(home):
    assert "exceeds 10 tokens" in complaint(home, "model.max_context_tokens=50", "rollout.max_new_tokens=40")


@pytest.mark.engine
def test_run_folder_of_another_run(home, smoke_run):
    assert "holds a run already" in complaint(home, "--run-dir", str(smoke_run.run_dir))
