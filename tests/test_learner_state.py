"""A learner that continues from a saved state does what the undisturbed one does, bit for bit: real DeepSpeed."""

from __future__ import annotations

import functools
import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from floe.cluster.messages import AdapterManifest, LearnerRank, StepReport
from floe.configs.errors import UserError
from floe.configs.schema import (
    AlgorithmSection,
    LearnerSection,
    LoraSection,
    ModelSection,
    RolloutSection,
    RunConfig,
    RunSection,
)
from tests.test_learner_ranks import group
from tests.tiny_models import save_tiny_llama

pytestmark = pytest.mark.engine

GROUPS = [group(2, (6, 5, 6, 7)), group(3, (7, 4, 6, 7))]
# The first update after loading is the third: there the powers of beta as floats differ from the running product.
NUM_BEFORE, NUM_STEPS = 1, 3
CASES = {  # stage, type, offload: by number of ranks
    1: [
        (0, "float32", False),
        (1, "float32", True),
        (1, "bfloat16", False),
        (2, "bfloat16", True),
        (2, "bfloat16", False),
    ],
    2: [(2, "bfloat16", True)],
}
OTHER_CASES = {
    1: [
        (2, "float32", False),
        (0, "float32", True),
        (1, "float32", False),
        (2, "float32", True),
        (1, "bfloat16", True),
    ],
    2: [
        (0, "float32", False),
        (2, "float32", False),
        (1, "float32", True),
        (1, "bfloat16", True),
        (2, "bfloat16", False),
    ],
}
Steps = list[tuple[StepReport, bytes]]  # with the adapter after it


def config_of(stage: int, dtype: str, offload: bool) -> RunConfig:
    return RunConfig(
        run=RunSection(num_steps=NUM_STEPS),
        model=ModelSection(dtype=dtype),
        rollout=RolloutSection(dtype=dtype),
        lora=LoraSection(rank=8, alpha=16),
        learner=LearnerSection(
            max_pack_tokens=64,
            num_threads=1,
            zero_stage=stage,
            offload_optimizer=offload,
            learning_rate=1e-2,
            updates_per_batch=2,  # the optimiser's count is not the step's
        ),
        algorithm=AlgorithmSection(kl_coefficient=0.1),
    )


def write_initial(folder: Path, model_dir: Path) -> Path:
    """Write a warm start's stand-in, far from the base model: the KL term tells one reference from another."""
    from floe.learner.adapter.export import to_blob
    from floe.learner.adapter.files import write_adapter
    from floe.learner.policy.policy import adapter_tensors, build_policy, probe_tensors

    config = config_of(2, "bfloat16", False)
    policy = build_policy(model_dir, config.model, config.lora, dropout=0.0, seed=1, initial=None, with_reference=False)
    write_adapter(folder, to_blob(probe_tensors(adapter_tensors(policy))), config.lora, model_dir)
    return folder


def learn(learner, steps: range) -> Steps:
    done = []
    for step in steps:
        report = learner.update(step, GROUPS)
        manifest: AdapterManifest = learner.export_adapter(step)
        done.append((report, manifest.blob_ref))
    return done


def adapters_of(policy: torch.nn.Module, name: str) -> dict[str, list]:
    weights = {key: weight.tolist() for key, weight in policy.named_parameters() if f".{name}." in key}
    assert weights
    return {key.replace(f".{name}.", "."): values for key, values in weights.items()}


def both_ways(
    rank: LearnerRank, cases: list, model_dir: Path, initial: Path, folder: Path
) -> list[tuple[Steps, Steps, str]]:
    """Run in a separate process each case undisturbed and continued; also load the first case's state in others."""
    import cpuinfo

    from floe.learner.grpo_learner import GrpoLearner

    # Each of DeepSpeed's CPU Adams asks it anew, by processes; each of its BF16 optimisers collects four times.
    cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)
    gc.freeze()

    def learner_of(case: tuple) -> GrpoLearner:
        return GrpoLearner(config_of(*case), model_dir, initial, lambda blob: blob.tobytes(), rank)

    found = []
    for number, case in enumerate(cases):
        first = learner_of(case)
        before = learn(first, range(1, NUM_BEFORE + 1))
        first.save_state(folder / str(number))
        whole = before + learn(first, range(NUM_BEFORE + 1, NUM_STEPS + 1))
        second = learner_of(case)
        reference = adapters_of(second._policy, "reference")
        assert reference == adapters_of(second._policy, "default")
        second.load_state(folder / str(number))
        assert reference == adapters_of(second._policy, "reference") != adapters_of(second._policy, "default")
        parts = before + learn(second, range(NUM_BEFORE + 1, NUM_STEPS + 1))
        refusal = ""
        try:
            if case[:2] != cases[0][:2]:
                second.load_state(folder / "0")
        except UserError as fault:
            refusal = str(fault)
        found.append((whole, parts, refusal))
    return found


@pytest.mark.parametrize(
    ("num_ranks", "cases"),
    [
        (1, CASES[1]),
        pytest.param(2, CASES[2], marks=pytest.mark.long),
        *(pytest.param(*other, marks=pytest.mark.long) for other in OTHER_CASES.items()),
    ],
    ids=["1", "2", "1, the other cases", "2, the other cases"],
)
def test_a_loaded_learner_goes_on_as_the_undisturbed_one(tmp_path, num_ranks, cases):
    from floe.learner.optimizer.deepspeed_engine import free_port

    model_dir = save_tiny_llama(tmp_path / "model")
    initial = write_initial(tmp_path / "initial", model_dir)
    port = free_port("127.0.0.1")
    places = [LearnerRank(index=i, count=num_ranks, host="127.0.0.1", port=port) for i in range(num_ranks)]
    with ProcessPoolExecutor(num_ranks, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(both_ways, place, cases, model_dir, initial, tmp_path / "states") for place in places]
        by_rank = [done.result(timeout=1800) for done in running]
    for found in by_rank:
        for case, (whole, parts, refusal) in zip(cases, found, strict=True):
            assert [asdict(report) for report, _ in parts] == [asdict(report) for report, _ in whole], case
            assert [blob for _, blob in parts] == [blob for _, blob in whole], case
            assert all(report.grad_norm > 0 for report, _ in whole), case
            assert all(report.kl > 0 for report, _ in whole[1:]), case  # the reference is not the policy
            assert len({blob for _, blob in whole}) == NUM_STEPS, case
            assert ("another learner's" in refusal) == (case[:2] != cases[0][:2]), case
    names = {path.name for path in (tmp_path / "states" / "0").iterdir()}
    assert names == {f"optimizer-rank-{rank}-of-{num_ranks}.safetensors" for rank in range(num_ranks)}
