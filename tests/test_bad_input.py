"""Errors that a user can cause end in one plain sentence and exit code 2, without a trace on the first screen."""

import json
import socket
import sys
from pathlib import Path

import pytest

from floe.actors.demo.build import write_demo
from floe.cluster import cli
from floe.cluster.checkpoints.state import RunInputs, RunState
from floe.cluster.checkpoints.store import CheckpointStore
from floe.cluster.environment import environment_overrides
from floe.cluster.run_folder.status_file import read_status
from floe.configs.files.loading import dump_config, load_config
from tests.command_line import config, floe


def arguments_of(*given: str) -> list[str]:
    return ["train", "--config", config("smoke.yaml"), "cluster.address=local", *given]


def the_sentence(exit_code: int, stdout: str, stderr: str) -> str:
    assert exit_code == 2, stdout + stderr
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    sentences = [line for line in lines if line.startswith("floe: ")]
    assert len(sentences) == 1, stderr
    logs = [Path(line.removeprefix("  log: ")) for line in lines if line.startswith("  log: ")]
    assert len(logs) <= 1 and all("Traceback" in log.read_text() for log in logs)
    return sentences[0]


def complaint_of_process(home: Path, *given: str) -> str:
    done = floe(*arguments_of(*given), home=home)
    return the_sentence(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def complaint(capfd, monkeypatch, home, tmp_path):
    """Run the command in this process: what fails before Ray starts needs no separate one."""
    monkeypatch.setenv("FLOE_HOME", str(home))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(*given: str) -> str:
        folder = () if "--run-dir" in given else ("--run-dir", str(tmp_path / "run"))
        monkeypatch.setattr(sys, "argv", ["floe", *arguments_of(*folder, *given)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        return the_sentence(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_demo(folder)
    return folder


def as_files(folder) -> list[str]:
    return ["data.source=files", f"data.questions={folder / 'train.json'}", f"data.databases={folder / 'databases'}"]


def test_wrong_value(complaint):
    assert "rollout.group_size" in complaint("rollout.group_size=0")


def test_unknown_key_names_the_nearest(complaint):
    assert "rollout.group_size" in complaint("rollout.group_sise=8")


def test_unknown_model_path(home):
    assert "/no/such/model" in complaint_of_process(home, "model.path=/no/such/model")


def test_unknown_embedded_model(complaint):
    assert "embedded:nothing" in complaint("model.path=embedded:nothing")


def test_unreadable_questions(complaint, files, tmp_path):
    broken = tmp_path / "questions.json"
    broken.write_text("[{]")
    assert str(broken) in complaint(*as_files(files), f"data.questions={broken}")


def test_missing_database(complaint, files, tmp_path):
    lone = tmp_path / "questions.json"
    lone.write_text(json.dumps([{"db_id": "nowhere", "question": "How many?", "query": "SELECT 1"}]))
    assert "nowhere" in complaint(*as_files(files), f"data.questions={lone}")


def test_missing_databases_folder(complaint, files):
    assert "/no/such/folder" in complaint(*as_files(files), "data.databases=/no/such/folder")


@pytest.mark.engine
def test_too_little_memory(complaint, smoke_run):
    assert "GiB" in complaint("cluster.min_free_memory_gib=60000")


@pytest.mark.engine
def test_busy_dashboard_port(complaint, smoke_run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in complaint(f"cluster.dashboard_port={port}")


@pytest.mark.engine
@pytest.mark.long
def test_more_resources_than_the_cluster_has(home, smoke_run):
    assert "CPU" in complaint_of_process(home, "reward.num_workers=1000")


@pytest.mark.engine
def test_no_cluster_at_the_address(complaint, smoke_run):
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{unanswered.getsockname()[1]}"
        assert f"No Ray cluster answers at {address}" in complaint(f"cluster.address={address}")


def test_prompts_that_are_all_too_long(complaint):
    assert "exceeds 10 tokens" in complaint("model.max_context_tokens=50", "rollout.max_new_tokens=40")


@pytest.mark.engine
def test_run_folder_of_another_run(complaint, smoke_run):
    assert "holds a run already" in complaint("--run-dir", str(smoke_run.run_dir))


def test_resume_with_other_questions_and_another_model_than_the_checkpoints(complaint, tmp_path, capfd, monkeypatch):
    run_dir, given = tmp_path / "resumed", ["model.dtype=float32", "cluster.address=local"]
    resolved = load_config(Path(config("smoke.yaml")), [*environment_overrides(), *given])
    run_dir.mkdir()
    dump_config(resolved, run_dir / "config.yaml")
    state = RunState(
        step=2,
        metrics_position=0,
        configuration=resolved.model_dump(mode="json"),
        library_versions={},
        live_adapter_versions=(2,),
        inputs=RunInputs(num_questions=999, questions="a", databases="b", model="c"),
    )
    CheckpointStore(run_dir, 1).write(2, lambda folder: None, state)
    monkeypatch.setattr(sys, "argv", ["floe", "train", "--resume", str(run_dir)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capfd.readouterr()
    said = the_sentence(int(ended.value.code or 0), captured.out, captured.err)
    assert "other training questions (999 then, " in said and "contents of its databases and other weights" in said
    assert read_status(run_dir).error in said
