"""An embedded model is made once for each recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from floe.cluster.models.model_folder import WEIGHTS_INDEX, made_once, model_folder
from floe.cluster.preflight.model_files import weights
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config


def writing(text: str):
    def write(folder: Path) -> None:
        (folder / "model").write_text(text)

    return write


def never(_: Path) -> None:
    raise AssertionError("it is there")


def test_a_model_is_kept_until_its_recipe_changes(tmp_path):
    folder = tmp_path / "models" / "tiny"
    made_once(folder, writing("first"), "two layers")
    assert made_once(folder, never, "two layers") == folder
    made_once(folder, writing("second"), "three layers")
    assert (folder / "model").read_text() == "second" and [one.name for one in folder.parent.iterdir()] == ["tiny"]


def test_what_was_broken_off_is_no_model(tmp_path):
    def broken_off(folder: Path) -> None:
        (folder / "model").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "tiny", broken_off)
    assert not (tmp_path / "tiny").exists()
    assert (made_once(tmp_path / "tiny", writing("whole")) / "model").read_text() == "whole"


def test_a_model_of_the_hub_is_fetched_to_where_every_node_of_a_joined_cluster_reads(tmp_path, monkeypatch):
    """Two nodes that share `run.home` and have a cache of the hub each."""
    shared, own = tmp_path / "shared", {node: tmp_path / node for node in ("driver", "worker")}

    def fetch(name: str, *, allow_patterns: list[str], cache_dir: Path | None) -> str:
        folder = (cache_dir or own["driver"]) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_text("")
        return str(folder)

    def readable_on_worker(folder: Path) -> bool:
        return any(folder.is_relative_to(one) for one in (shared, own["worker"])) and any(folder.iterdir())

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    given = ["model.path=someone/model", f"run.home={shared}"]
    assert readable_on_worker(model_folder(load_config(None, [*given, "cluster.address=10.0.0.5:6379"]), tmp_path))
    alone = model_folder(load_config(None, [*given, "cluster.address=local"]), tmp_path)
    assert alone.is_relative_to(own["driver"])  # where other programs of this machine have it already


@pytest.mark.parametrize("present", [(), (WEIGHTS_INDEX, "a.safetensors")])
def test_a_model_half_in_the_cache_stops_what_needs_its_weights(tmp_path, monkeypatch, present):
    (tmp_path / "config.json").write_text("{}")
    for name in present:
        (tmp_path / name).write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    config = load_config(None, ["model.path=someone/model"])
    with pytest.raises(UserError, match=r"weights of model\.path 'someone/model' are not all in .*: fetch them with"):
        model_folder(config, tmp_path)
    assert model_folder(config, tmp_path, weights=False) == tmp_path
    for is_offline, level in ((True, "fault"), (False, "warning")):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_offline)
        assert weights(tmp_path, config).level == level
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_text("")
    assert model_folder(config, tmp_path) == tmp_path
