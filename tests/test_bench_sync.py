"""The broadcast bench, made small: every part of the way is timed for every number of receivers."""

import json

import pytest

from floe.cluster.bench import sync_bench
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.engine
@pytest.mark.long
def test_small_bench_times_every_part(monkeypatch, capsys, smoke_run):
    monkeypatch.setattr(sync_bench, "NUM_RECEIVERS", (1, 2))
    monkeypatch.setattr(sync_bench, "NUM_ROUNDS", 2)
    monkeypatch.setattr(sync_bench, "QWEN_3B", SMALL)
    overrides = [f"run.home={smoke_run.home}", "cluster.address=local"]
    sync_bench.bench_sync(load_config(REPOSITORY / "configs" / "smoke.yaml", overrides), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert [row["num_receivers"] for row in printed["times"]] == [1, 2, 1, 2]
    assert all(value > 0 for row in printed["times"] for name, value in row.items() if name.endswith("_ms"))
    assert len(printed["targets"]) == 2 * 4


def test_the_3b_shape_has_the_parameters_it_is_said_to_have():
    from transformers import AutoConfig

    from floe.cluster.preflight.sample_adapter import random_adapter
    from floe.configs.schema import LoraSection

    tensors = random_adapter(AutoConfig.for_model("qwen2", **sync_bench.QWEN_3B), LoraSection())
    assert sum(tensor.numel() for tensor in tensors.values()) == 29_933_568
