"""A warm start that is interrupted between or during evaluations ends with the same adapter, bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import pytest

from floe.cluster.messages import WarmStartExample, WarmStartReport
from floe.configs.schema import LearnerSection, LoraSection, ModelSection, RunConfig, WarmStartSection
from floe.learner.warm_start_progress import WarmStartProgress
from tests.tiny_models import save_tiny_llama

CONFIG = RunConfig(
    model=ModelSection(dtype="bfloat16"),
    lora=LoraSection(rank=8, alpha=16),
    learner=LearnerSection(max_pack_tokens=64, num_threads=1),
    warm_start=WarmStartSection(
        learning_rate=5e-3, lora_dropout=0.2, batch_questions=4, max_epochs=2, evals_per_epoch=3, patience=100
    ),
)
BROKEN_OFF = 17


def examples(seed: int, number: int) -> list[WarmStartExample]:
    rng = random.Random(seed)
    return [
        WarmStartExample(
            database_id=rng.choice(("shop", "zoo")),
            prompt_token_ids=tuple(rng.randrange(32) for _ in range(6)),
            answer_token_ids=tuple(rng.choice((3, 5, 7)) for _ in range(rng.randint(2, 6))),
        )
        for _ in range(number)
    ]


def same_first_token(found: list[WarmStartExample]) -> list[WarmStartExample]:
    return [
        WarmStartExample(
            database_id=one.database_id,
            prompt_token_ids=(1, *one.prompt_token_ids),
            answer_token_ids=one.answer_token_ids,
        )
        for one in found
    ]


def train(model_dir: Path, folder: Path, num_reports: int | None, num_steps: int | None) -> None:
    """Train in a separate process. End it abruptly after so many reports or optimiser steps."""
    from floe.learner.supervised import SupervisedLearner

    learner = SupervisedLearner(CONFIG, model_dir)
    steps = 0
    engine_step = learner._engine.step

    def counted(rate: float) -> float:
        nonlocal steps
        steps += 1
        if steps == num_steps:
            os._exit(BROKEN_OFF)
        return engine_step(rate)

    learner._engine.step = counted  # type: ignore[method-assign]
    stream = learner.train(
        same_first_token(examples(1, 40)), same_first_token(examples(2, 8)), folder / "adapter", folder / "checkpoint"
    )
    reports = (each for each in stream if isinstance(each, WarmStartReport))
    for number, _ in enumerate(reports, start=1):
        if number == num_reports:
            os._exit(BROKEN_OFF)


def run(*arguments) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=train, args=arguments)
    process.start()
    process.join(1800)
    return process.exitcode


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"), vocab_size=32)


@pytest.fixture(scope="module")
def whole(model_dir, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    assert run(model_dir, folder, None, None) == 0
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.parametrize(
    ("num_reports", "num_steps"),
    [pytest.param(2, None, id="after a report"), pytest.param(None, 9, id="in a step")],
)
def test_a_broken_off_warm_start_ends_as_a_whole_one(model_dir, whole, tmp_path, num_reports, num_steps):
    assert run(model_dir, tmp_path, num_reports, num_steps) == BROKEN_OFF
    left = WarmStartProgress.read(tmp_path / "checkpoint")
    assert left.num_batches > 0
    assert run(model_dir, tmp_path, None, None) == 0
    assert WarmStartProgress.read(tmp_path / "checkpoint").num_batches > left.num_batches
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == whole


def test_progress_is_read_as_it_was_written_and_older_checkpoints_go(tmp_path):
    report = WarmStartReport(epoch=0.5, train_loss=1.0, held_back_loss=0.9, is_best=True)
    worse = WarmStartReport(epoch=1.0, train_loss=0.9, held_back_loss=1.1, is_best=False)
    assert WarmStartProgress.read(tmp_path) == WarmStartProgress()
    for number in (5, 10):
        (tmp_path / f"batch-{number}").mkdir()
    progress = WarmStartProgress().after(report, 5).after(worse, 10)
    progress.write(tmp_path)
    assert WarmStartProgress.read(tmp_path) == progress
    assert (progress.num_batches, progress.num_worse, progress.best) == (10, 1, report)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["batch-10", "progress.json"]
