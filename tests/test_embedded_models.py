"""An embedded model is made once for each recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.embedded_models import made_once


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
