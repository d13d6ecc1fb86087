"""Two updates of several packs at every ZeRO stage, precision and offload, against plain AdamW: the same or refused."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from floe.configs.errors import ConfigError
from floe.configs.files.loading import load_config
from tests.test_learner_ranks import THREE_PACKS_AGAINST_ONE, config_of
from tests.tiny_models import save_tiny_llama

pytestmark = [pytest.mark.engine, pytest.mark.long]

ALL = [(stage, dtype, offload) for stage in (0, 1, 2) for dtype in ("float32", "bfloat16") for offload in (False, True)]
REFUSED = [(0, "bfloat16", False), (0, "bfloat16", True)]
CASES = [case for case in ALL if case not in REFUSED]
PLAIN = "plain AdamW"
NUM_UPDATES = 2

Outcome = tuple[list[float], torch.Tensor]  # the norms of the gradients before clipping, and how the weights changed


class PlainAdamW:
    """DeepSpeedEngine's work for one rank, by PyTorch alone: float32 weights, gradients added up in float32."""

    rank_index, num_ranks = 0, 1

    def __init__(self, model: torch.nn.Module, settings, dtype: str, rank=None) -> None:
        self.module = model
        self._settings = settings
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._masters = [parameter.detach().float().clone().requires_grad_() for parameter in self._weights]
        for master in self._masters:
            master.grad = torch.zeros_like(master)
        self._adam = torch.optim.AdamW(
            self._masters, lr=0.0, betas=settings.adam_betas, weight_decay=settings.weight_decay
        )

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        loss.backward()
        for weight, master in zip(self._weights, self._masters, strict=True):
            if weight.grad is not None:
                master.grad += weight.grad.float()
                weight.grad = None

    def step(self, learning_rate: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self._masters, self._settings.max_grad_norm)
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        for weight, master in zip(self._weights, self._masters, strict=True):
            master.grad.zero_()
            weight.data.copy_(master)
        return float(norm)

    def gather(self, value):
        return [value]


def outcomes(model_dir: Path) -> dict[object, Outcome]:
    """Return, from a separate process, each case's outcome, and plain AdamW's in each precision."""
    from floe.learner import grpo_learner

    engine = grpo_learner.DeepSpeedEngine
    found: dict[object, Outcome] = {case: outcome(model_dir, *case) for case in CASES}
    grpo_learner.DeepSpeedEngine = PlainAdamW
    try:
        return found | {(PLAIN, dtype): outcome(model_dir, 1, dtype, False) for dtype in ("float32", "bfloat16")}
    finally:
        grpo_learner.DeepSpeedEngine = engine


def outcome(model_dir: Path, stage: int, dtype: str, offload: bool) -> Outcome:
    from floe.learner.grpo_learner import GrpoLearner
    from floe.learner.policy.policy import adapter_tensors

    config = config_of(dtype)
    changes = {"zero_stage": stage, "offload_optimizer": offload, "learning_rate": 1e-2, "max_grad_norm": 0.05}
    config = config.model_copy(update={"learner": config.learner.model_copy(update=changes)})
    learner = GrpoLearner(config, model_dir, None, lambda blob: blob, None)
    before = adapter_tensors(learner._policy)
    norms = [learner.update(step, THREE_PACKS_AGAINST_ONE).grad_norm for step in range(1, NUM_UPDATES + 1)]
    after = adapter_tensors(learner._policy)
    return norms, torch.cat([(after[name].float() - before[name].float()).flatten() for name in sorted(before)])


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[object, Outcome]:
    model_dir = save_tiny_llama(tmp_path_factory.mktemp("model"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(outcomes, model_dir).result()


@pytest.mark.parametrize(("stage", "dtype", "offload"), CASES)
def test_each_pack_counts_once_and_the_weights_move_as_by_plain_adamw(found, stage, dtype, offload):
    norms, change = found[stage, dtype, offload]
    plain_norms, plain_change = found[PLAIN, dtype]
    is_exact = dtype == "float32"
    assert norms == pytest.approx(plain_norms, rel=1e-5 if is_exact else 1e-2)
    assert plain_change.norm() > 0
    assert (change - plain_change).norm() <= (1e-4 if is_exact else 0.1) * plain_change.norm()


def test_both_precisions_have_about_the_same_gradient(found):
    assert found[PLAIN, "bfloat16"][0] == pytest.approx(found[PLAIN, "float32"][0], rel=0.05)


@pytest.mark.parametrize(("stage", "dtype", "offload"), REFUSED)
def test_what_deepspeed_adds_up_otherwise_is_refused(stage, dtype, offload):
    settings = [f"learner.zero_stage={stage}", f"model.dtype={dtype}", f"learner.offload_optimizer={offload}"]
    with pytest.raises(ConfigError, match=r"learner\.zero_stage is 0"):
        load_config(None, settings)
