"""`run.num_steps=0` makes the supervised stage's adapter alone, which another run then starts from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from floe.cluster.exports.run_adapters import find_adapter
from floe.configs.errors import ConfigError
from floe.configs.files.loading import load_config
from floe.learner.adapter.files import CONFIG, WEIGHTS
from tests.command_line import config, floe

SMALL = ("warm_start.max_train_questions=32", "warm_start.max_held_back_questions=8", "cluster.address=local")


@pytest.mark.engine
@pytest.mark.long
def test_it_leaves_an_adapter_that_export_status_and_a_further_run_take(other_home, tmp_path):
    run_dir = tmp_path / "supervised"
    options = ("--config", config("smoke.yaml"), "--run-dir", str(run_dir), "run.num_steps=0", *SMALL)
    done = floe("train", *options, home=other_home)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "held-back" in done.stdout and "no GRPO, and no evaluation" in done.stdout
    assert not (run_dir / "checkpoints").exists()  # nothing of GRPO was begun
    adapter = find_adapter(run_dir, None)
    assert (adapter.which, adapter.version) == ("latest", None)
    assert json.loads((adapter.folder / CONFIG).read_text())["r"] == 16

    again = floe("train", "--resume", str(run_dir), home=other_home)
    assert again.returncode == 0 and "taken from" in again.stdout, again.stdout[-3000:] + again.stderr[-3000:]
    shown = floe("status", str(run_dir), home=other_home)
    assert shown.returncode == 0 and "finished" in shown.stdout, shown.stdout + shown.stderr
    out = tmp_path / "exported"
    exported = floe("export", str(run_dir), "--adapter", str(out), "--adapter-dtype", "bfloat16", home=other_home)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert {tensor.dtype for tensor in load_file(out / WEIGHTS).values()} == {torch.bfloat16}
    planned = floe("plan", "--config", config("smoke.yaml"), f"lora.initial_adapter={run_dir}", home=other_home)
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_nothing_that_learns_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"run\.num_steps is 0, which is the supervised stage alone"):
        load_config(config("smoke.yaml"), ["run.num_steps=0", "warm_start.enabled=false"])


def test_an_update_takes_as_many_questions_from_each_of_its_databases():
    with pytest.raises(ConfigError, match=r"warm_start\.batch_questions is 30, which warm_start\.batch_databases 4"):
        load_config(config("smoke.yaml"), ["warm_start.batch_questions=30", "warm_start.batch_databases=4"])
