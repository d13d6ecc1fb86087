"""A learner that starts from an adapter computes what PEFT does; an engine that only adds up replaces DeepSpeed's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from floe.configs.errors import UserError
from floe.configs.schema import (
    AlgorithmSection,
    LearnerSection,
    LoraSection,
    ModelSection,
    RolloutSection,
    RunConfig,
    WarmStartSection,
)
from floe.learner import grpo_learner, supervised
from floe.learner.adapter.files import WEIGHTS, read_adapter
from floe.learner.policy.policy import adapter_tensors, build_policy
from tests.peft_adapters import ALPHA, RANK, TARGETS, peft_logprobs, save_adapter
from tests.test_learner_options import GROUPS, AddingEngine
from tests.tiny_models import save_tiny_llama

LORA = LoraSection(rank=RANK, alpha=ALPHA, target_modules=TARGETS, initial_adapter="given")
TEXT = [3, 9, 27, 17, 51, 25, 11, 33, 2, 40]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"), initializer_range=0.2)


@pytest.fixture(autouse=True)
def no_deepspeed(monkeypatch):
    for module in (grpo_learner, supervised):
        monkeypatch.setattr(module, "DeepSpeedEngine", lambda policy, *_: AddingEngine(policy))


def config_of(**algorithm) -> RunConfig:
    return RunConfig(
        model=ModelSection(dtype="float32"),
        rollout=RolloutSection(dtype="float32"),
        lora=LORA,
        learner=LearnerSection(max_pack_tokens=64),
        algorithm=AlgorithmSection(**algorithm),
    )


def learner_of(base: Path, folder: Path, **algorithm) -> grpo_learner.GrpoLearner:
    return grpo_learner.GrpoLearner(config_of(**algorithm), base, folder, lambda blob: blob.tobytes())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_step_0_the_learner_computes_pefts_log_probabilities(tmp_path, base, dtype):
    assert LORA.alpha not in (LORA.rank, 2 * LORA.rank)  # the scaling is neither 1 nor the default's
    folder = save_adapter(tmp_path / "adapter", base, dtype=dtype)
    learner = learner_of(base, folder)
    found = torch.tensor(learner.canary_logprobs(TEXT, with_adapter=True))
    expected = peft_logprobs(base, folder, TEXT)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    plain = peft_logprobs(base, None, TEXT)
    torch.testing.assert_close(torch.tensor(learner.canary_logprobs(TEXT, False)), plain, rtol=0, atol=1e-4)
    assert (expected - plain).abs().max() > 0.05


def test_what_a_bfloat16_learner_holds_is_the_float32_adapter_rounded_once(tmp_path, base):
    tensors = read_adapter(save_adapter(tmp_path / "adapter", base), LORA)
    options = {"dropout": 0.0, "seed": 1, "initial": tensors, "with_reference": False}
    policy = build_policy(base, ModelSection(dtype="bfloat16"), LORA, **options)
    policy.bfloat16()  # as DeepSpeed casts it
    held = adapter_tensors(policy)
    assert held.keys() == tensors.keys()
    assert all(torch.equal(held[name], tensor.bfloat16()) for name, tensor in tensors.items())


@pytest.mark.parametrize(("reference", "is_far"), [("initial", False), ("base", True)])
def test_the_kl_term_is_to_the_adapter_or_to_the_base(tmp_path, base, reference, is_far):
    learner = learner_of(base, save_adapter(tmp_path / "adapter", base), kl_reference=reference, kl_coefficient=0.1)
    groups = [group for group in GROUPS if group.rollout.question.question_id in ("q1", "q2")]
    kl = learner.update(1, groups).kl
    assert kl > 1e-3 if is_far else abs(kl) < 1e-7
    assert ("reference" in learner._policy.peft_config) is not is_far


def test_a_warm_start_trains_the_given_adapter_further(tmp_path, base):
    folder = save_adapter(tmp_path / "adapter", base)
    config = config_of().model_copy(update={"warm_start": WarmStartSection(lora_dropout=0.0)})
    held = adapter_tensors(supervised.SupervisedLearner(config, base, initial_adapter=folder)._policy)
    fresh = adapter_tensors(supervised.SupervisedLearner(config, base)._policy)
    given = load_file(folder / WEIGHTS)
    assert all(
        torch.equal(held[name], tensor) and not torch.equal(fresh[name], tensor) for name, tensor in given.items()
    )


def test_tensors_that_the_model_has_no_place_for_are_refused(tmp_path, base):
    tensors = read_adapter(save_adapter(tmp_path / "adapter", base), LORA)
    moved = {name.replace("layers.1", "layers.7"): tensor for name, tensor in tensors.items()}
    options = {"dropout": 0.0, "seed": 1, "initial": moved, "with_reference": False}
    with pytest.raises(UserError, match=r"4 of the adapter's 8 tensors have no place in the model, .*layers\.7"):
        build_policy(base, ModelSection(dtype="float32"), LORA, **options)
