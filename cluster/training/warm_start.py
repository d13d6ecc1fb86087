"""Runs the supervised warm start, or takes its adapter from the cache when nothing that made it has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.checkpoints.inputs import adapter_digest, model_digest
from floe.cluster.messages import Question, WarmStartBatch, WarmStartExample, WarmStartReport
from floe.cluster.plugins.sources import plugin_sources
from floe.cluster.ray_actors.placement import start_supervised_learner
from floe.cluster.terminal.progress import Progress
from floe.configs.files.foreign_files import parsed_json
from floe.configs.plugins.kinds import FAMILIES
from floe.configs.schema import RunConfig
from floe.configs.sections.learning_sections import WarmStartSection

GRPO_ALONE = {"learning_rate", "schedule", "min_learning_rate_share", "updates_per_batch"}  # fields of `learner`
FAMILY = {"family", "family_arguments"}  # fields of `model`: only a plug-in's are part of the key, with its code
RECIPE_VERSION = 2  # increased when the supervised code changes what it computes


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """Inputs of a warm start, and the folder of the cache that it fills."""

    examples: tuple[WarmStartExample, ...]
    held_back: tuple[WarmStartExample, ...]
    folder: Path
    initial_adapter: Path | None = None  # None: a fresh one

    @property
    def is_made(self) -> bool:
        return (self.folder / "report.json").is_file()


def warm_start_of(
    config: RunConfig,
    model_dir: Path,
    encoder: PromptEncoder,
    train: Sequence[Question],
    tune: Sequence[Question],
    initial_adapter: Path | None = None,
) -> WarmStart:
    """Encode the questions of a run's warm start. The held-back loss is that of the `tune` split."""
    settings = config.warm_start
    examples = _examples(train[: settings.max_train_questions], encoder.training_prompt, encoder)
    held_back = _examples(held_back_questions(tune, settings), encoder.prompt, encoder)
    folder = config.run.home_dir / "warm_starts" / _key(config, model_dir, examples, held_back, initial_adapter)
    return WarmStart(
        examples=tuple(examples), held_back=tuple(held_back), folder=folder, initial_adapter=initial_adapter
    )


def held_back_questions(tune: Sequence[Question], settings: WarmStartSection) -> list[Question]:
    """Return the questions of the held-back loss: the first of the split, and of a database where that is bounded."""
    most, num_of = settings.max_held_back_per_database, Counter[str]()
    kept = []
    for question in tune:
        num_of[question.database_id] += 1
        if most is None or num_of[question.database_id] <= most:
            kept.append(question)
    return kept[: settings.max_held_back_questions]


def warm_start_adapter(config: RunConfig, model_dir: Path, wanted: WarmStart, progress: Progress) -> Path:
    """Return the folder of the warm-start adapter."""
    folder = wanted.folder
    if wanted.is_made:
        report = WarmStartReport(**parsed_json((folder / "report.json").read_text()))
        progress.note(f"taken from {folder} (held-back loss {report.held_back_loss:.3f})")
        return folder / "adapter"
    checkpoint_dir = folder / "checkpoint"
    if checkpoint_dir.is_dir():
        progress.note(f"continues the interrupted one in {folder}")
    learner, noted = start_supervised_learner(config, model_dir, wanted.initial_adapter), set[WarmStartReport]()
    try:
        for message in learner.train(wanted.examples, wanted.held_back, folder / "adapter", checkpoint_dir):
            if isinstance(message, WarmStartBatch):
                progress.batch(message)
                continue
            report = message
            if report not in noted:  # at the end the best one comes once more
                noted.add(report)
                progress.note(_line(report))
    finally:
        learner.stop()
    (folder / "report.json").write_text(json.dumps(asdict(report)))
    shutil.rmtree(checkpoint_dir)
    return folder / "adapter"


def _line(report: WarmStartReport) -> str:
    mark = "  best, kept" if report.is_best else ""
    return f"epoch {report.epoch:.2f}  loss {report.train_loss:.3f}  held-back {report.held_back_loss:.3f}{mark}"


def _examples(
    questions: Sequence[Question], prompt_of: Callable[[Question], tuple[int, ...]], encoder: PromptEncoder
) -> list[WarmStartExample]:
    return [
        WarmStartExample(
            database_id=question.database_id,
            prompt_token_ids=prompt_of(question),
            answer_token_ids=encoder.answer(question.gold_sql[0]),
        )
        for question in questions
    ]


def _key(
    config: RunConfig,
    model_dir: Path,
    examples: Sequence[WarmStartExample],
    held_back: Sequence[WarmStartExample],
    initial_adapter: Path | None = None,
) -> str:
    base = model_digest(model_dir, config.run.home_dir)
    made_by = {
        "recipe": RECIPE_VERSION,
        "seed": config.warm_start_seed,
        "model": [base, config.model.model_dump(mode="json", exclude={"path", *FAMILY}), config.rollout.dtype],
        "sections": [
            config.warm_start.model_dump(mode="json", exclude={"seed"}),
            config.lora.model_dump(mode="json", exclude={"initial_adapter"}),
        ],
        "learner": config.learner.model_dump(mode="json", exclude=GRPO_ALONE),
        "examples": [asdict(example) for example in (*examples, *held_back)],
    }
    if initial_adapter is not None:
        made_by["initial adapter"] = adapter_digest(initial_adapter, config.run.home_dir)
    if FAMILIES.is_plugin(config.model.family):
        made_by["family"] = [config.model.family_arguments, plugin_sources(config, FAMILIES)]
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
