"""What lies in a user's folder is data: code that comes with a model is not run, and floe's code unpickles nothing."""

from __future__ import annotations

import ast
import builtins
import json
from pathlib import Path

import pytest

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.memory_plan.shapes.model_config import model_config_of
from floe.cluster.preflight import model_files
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import ModelSection, PromptSection
from tests.command_line import REPOSITORY

CODE = """
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedTokenizerFast
Path({ran!r}).touch()
class OwnConfig(PretrainedConfig):
    model_type = "own"
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
FOLDERS = ("actors", "cluster", "configs", "learner", "reward_service")
UNPICKLING = {"cloudpickle", "dill", "joblib", "pickle", "shelve"}


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """Return the folder of a model with code of its own, before a user who says yes to whatever transformers asks."""
    folder = tmp_path / "own_model"
    folder.mkdir()
    (folder / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoConfig": "own.OwnConfig"}})
    )
    own_tokenizer = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(own_tokenizer))
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder


def configuration_of(model: Path) -> object:
    return model_config_of(load_config(None, [f"model.path={model}"]))


def encoder_of(model: Path) -> object:
    return PromptEncoder(model, model, PromptSection())


READERS = (configuration_of, encoder_of, model_files.load_tokenizer, model_files.read_model_config)


@pytest.mark.parametrize("read", READERS)
def test_code_that_comes_with_a_model_is_not_run(model, tmp_path, read):
    with pytest.raises((UserError, ValueError, OSError, KeyError)):
        read(model)
    assert not (tmp_path / "ran").exists()


def test_the_doctor_says_why_such_a_model_is_refused(model):
    found = model_files.model_config(model, ModelSection())
    assert found.level == "fault" and "can't be used" in found.what


def unpickles(node: ast.AST) -> bool:
    """Return whether this imports a module that unpickles, or calls torch.load."""
    match node:
        case ast.Import(names=names):
            return any(one.name in UNPICKLING for one in names)
        case ast.ImportFrom(module=module):
            return module in UNPICKLING
        case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
            return True
    return False


def test_nothing_is_unpickled():
    sources = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources}
    assert len(trees) > 300
    assert [path for path, tree in trees.items() if any(map(unpickles, ast.walk(tree)))] == []


@pytest.mark.parametrize("line", ["import pickle", "from joblib import load", "import torch\ntorch.load('a')"])
def test_a_line_that_unpickles_is_found(line):
    assert any(map(unpickles, ast.walk(ast.parse(line))))
