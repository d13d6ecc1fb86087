"""The learner's arithmetic asks for few packages, and its policy goes to a GPU without a stay in the host's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from floe.learner.policy.policy import build_policy
from tests.test_architecture import PACKAGES, ROOT, imports_of, is_standard_library, tree_of
from tests.tiny_models import save_tiny_llama

BARE = [
    "learner/loss/advantages.py",
    "learner/loss/grpo_loss.py",
    "learner/policy/lora_linear.py",
    "learner/policy/merged_attention.py",
    "learner/policy/pack_attention.py",
    "learner/packing/packs.py",
    "learner/policy/policy.py",
    "learner/policy/shared_prefix_attention.py",
    "learner/families/target_logprob.py",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "learner/families").glob("*.py")),
]
FEW = {"numpy", "peft", "safetensors", "torch", "transformers", "xxhash"}
ABSENT = ("deepspeed", "pydantic", "ray", "vllm")


def needed(source: str, seen: set[str]) -> set[str]:
    """Return the packages beside the standard library that a file's imports need, through the project's own."""
    found: set[str] = set()
    if source in seen:
        return found
    seen.add(source)
    tree = tree_of(source)
    tree.body = [node for node in tree.body if not is_for_type_checking(node)]
    for module in imports_of(tree, source):
        top = module.partition(".")[0]
        if top in PACKAGES:
            found |= set().union(*(needed(one, seen) for one in files_of(module)))
        elif not is_standard_library(module):
            found.add(top)
    return found


def is_for_type_checking(node) -> bool:
    return getattr(getattr(node, "test", None), "id", "") == "TYPE_CHECKING"


def files_of(module: str) -> list[str]:
    """Return the file of a module, or of the module that a name is taken from."""
    paths = (Path(*parts).with_suffix(".py") for parts in (module.split("."), module.split(".")[:-1]) if parts)
    return [str(path) for path in paths if (ROOT / path).is_file()][:1]


@pytest.mark.parametrize("source", BARE)
def test_the_learners_arithmetic_needs_few_packages(source):
    assert needed(source, set()) <= FEW


@pytest.mark.heavy
def test_it_is_imported_where_others_are_missing():
    modules = ", ".join(
        "floe." + source.removesuffix(".py").replace("/", ".") for source in BARE if "__init__" not in source
    )
    code = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\nimport {modules}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_policy_is_built_of_anything_that_says_what_the_sections_say(tmp_path):
    save_tiny_llama(tmp_path)
    model = SimpleNamespace(dtype="float32")
    lora = SimpleNamespace(rank=4, alpha=8, target_modules=("q_proj",))
    policy = build_policy(tmp_path, model, lora, dropout=0.0, seed=1, initial=None, with_reference=False)
    assert sum(one.numel() for one in policy.parameters() if one.requires_grad) == 2 * 2 * 4 * 32


class Loaded(Exception):
    """What is loaded, and where to."""


@pytest.mark.parametrize(
    ("device", "device_map"),
    [(None, None), (torch.device("cpu"), None), (torch.device("cuda", 0), {"": torch.device("cuda", 0)})],
    ids=["by default", "on a CPU", "on a GPU"],
)
def test_the_weights_are_loaded_to_where_they_are_used(tmp_path, monkeypatch, device, device_map):
    """Otherwise the host would hold a whole copy of the model on its way."""

    def load(*_, **options):
        raise Loaded(options["device_map"])

    save_tiny_llama(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    model, lora = SimpleNamespace(dtype="float32"), SimpleNamespace()
    with pytest.raises(Loaded) as loaded:
        build_policy(tmp_path, model, lora, dropout=0.0, seed=1, initial=None, with_reference=False, device=device)
    assert loaded.value.args == (device_map,)
