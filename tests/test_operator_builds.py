"""Each environment has its own folder for what PyTorch compiles."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from floe.learner.optimizer import operator_builds
from floe.learner.optimizer.operator_builds import compiled_extensions_dir, prepare_to_build


def test_two_environments_and_two_kinds_of_processor_share_no_folder(monkeypatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    first = compiled_extensions_dir()
    assert compiled_extensions_dir() == first
    with monkeypatch.context() as other:
        other.setattr(operator_builds, "_instruction_set", lambda: "flags: avx512f")
        second = compiled_extensions_dir()
    monkeypatch.setattr(sys, "prefix", "/elsewhere/.venv")
    assert len({first, second, compiled_extensions_dir()}) == 3
    assert first.parent == second.parent == Path("~/.cache/torch_extensions").expanduser()


def test_the_folder_that_is_given_is_taken_and_the_one_that_is_chosen_is_pytorchs_too(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    prepare_to_build()
    assert compiled_extensions_dir() == tmp_path == Path(os.environ["TORCH_EXTENSIONS_DIR"])
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare_to_build()
    assert Path(os.environ["TORCH_EXTENSIONS_DIR"]).is_relative_to(tmp_path / ".cache" / "torch_extensions")
