"""The gradient of several packs, one micro-batch each, at every ZeRO stage: each pack counts once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.test_learner_ranks import THREE_PACKS_AGAINST_ONE, config_of
from tests.tiny_models import save_tiny_llama

pytestmark = pytest.mark.engine

REFERENCE = (0, "float32", False)
CASES = [
    (stage, dtype, offload)
    for stage in (0, 1, 2)
    for dtype in ("float32", "bfloat16")
    for offload in (False, True)
    if stage > 0 or (dtype == "float32" and not offload)
]


def gradient_norms(cases: list[tuple[int, str, bool]], model_dir: Path) -> list[float]:
    """In a process of its own: each case's norm of the gradient of four packs."""
    from learner.grpo_learner import GrpoLearner

    norms = []
    for stage, dtype, offload in cases:
        config = config_of(dtype)
        learner = config.learner.model_copy(update={"zero_stage": stage, "offload_optimizer": offload})
        config = config.model_copy(update={"learner": learner})
        report = GrpoLearner(config, model_dir, None, lambda blob: blob, None).update(1, THREE_PACKS_AGAINST_ONE)
        norms.append(report.grad_norm)
    return norms


@pytest.fixture(scope="module")
def norms(tmp_path_factory) -> dict[tuple[int, str, bool], float]:
    model_dir = save_tiny_llama(tmp_path_factory.mktemp("model"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return dict(zip(CASES, process.submit(gradient_norms, CASES, model_dir).result(), strict=True))


@pytest.mark.parametrize(("stage", "dtype", "offload"), CASES)
def test_each_pack_counts_once(norms, stage, dtype, offload):
    precision = 1e-5 if dtype == "float32" else 1e-2
    assert norms[stage, dtype, offload] == pytest.approx(norms[REFERENCE], rel=precision)
