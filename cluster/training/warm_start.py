"""Runs the supervised warm start, or takes its adapter from the cache when nothing that made it has changed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.checkpoints.inputs import adapter_digest, model_digest
from floe.cluster.messages import Question, WarmStartBatch, WarmStartExample, WarmStartReport
from floe.cluster.plugins.sources import plugin_sources
from floe.cluster.ray_actors.placement import start_supervised_learner
from floe.cluster.run_folder.file_names import TRACE_TABLE, TRACES_FILE
from floe.cluster.terminal.progress import Progress
from floe.cluster.traces.making import TraceWork, make_traces, trace_work
from floe.cluster.traces.records import Trace, trace_lines
from floe.cluster.traces.selection import Selection
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.whole_files import write_whole
from floe.configs.plugins.kinds import FAMILIES
from floe.configs.schema import RunConfig
from floe.configs.sections.warm_start_section import WarmStartSection

GRPO_ALONE = {"learning_rate", "schedule", "min_learning_rate_share", "updates_per_batch"}  # fields of `learner`
FAMILY = {"family", "family_arguments"}  # fields of `model`: only a plug-in's are part of the key, with its code
HELD_BACK_QUESTIONS = 10  # one question in so many is held back where no trace is of the split `tune`
# Fields of `warm_start` that are part of the key through the traces themselves.
OF_TRACES = {"source", "traces", "trace_samples", "trace_temperature", "max_traces_per_question"}
TRACES_VERSION = 1  # increased when other traces are selected of the same answers
RECIPE_VERSION = 2  # increased when the supervised code changes what it computes


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """Inputs of a warm start, and the folder of the cache that it fills.

    Until traces are made, the golds of their questions stand for them in `examples` and `held_back`.
    """

    examples: tuple[WarmStartExample, ...]
    held_back: tuple[WarmStartExample, ...]
    folder: Path
    initial_adapter: Path | None = None  # None: a fresh one
    traces: TraceWork | None = None  # None: it learns from golds

    @property
    def is_made(self) -> bool:
        return (self.folder / "report.json").is_file()


def warm_start_of(
    config: RunConfig,
    model_dir: Path,
    encoder: PromptEncoder,
    sets: QuestionSets,
    initial_adapter: Path | None = None,
) -> WarmStart:
    """Encode the questions of a run's warm start. The held-back loss is that of the `tune` split.

    Raises UserError where the run's traces can't be made.
    """
    settings = config.warm_start
    examples = _examples(sets.train[: settings.max_train_questions], encoder.training_prompt, encoder)
    held_back = _examples(held_back_questions(sets.tune, settings), encoder.prompt, encoder)
    traces = None
    if settings.source == "traces":
        traces = traces_of(config, model_dir, encoder, sets, initial_adapter)
    key = _key(config, model_dir, examples, held_back, initial_adapter, traces)
    return WarmStart(
        examples=tuple(examples),
        held_back=tuple(held_back),
        folder=config.run.home_dir / "warm_starts" / key,
        initial_adapter=initial_adapter,
        traces=traces,
    )


def traces_of(
    config: RunConfig,
    model_dir: Path,
    encoder: PromptEncoder,
    sets: QuestionSets,
    initial_adapter: Path | None,
) -> TraceWork:
    """Return what the run's traces are made of: answers to the questions that a warm start on golds would learn."""
    settings = config.warm_start
    questions = sets.train[: settings.max_train_questions], held_back_questions(sets.tune, settings)
    return trace_work(config, model_dir, encoder, *questions, sets.databases_dir, initial_adapter)


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
    examples, held_back = wanted.examples, wanted.held_back
    if wanted.traces is not None:
        selection = make_traces(config, wanted.traces, progress)
        write_traces(folder, selection)
        examples, held_back = trace_examples(selection, wanted.traces.encoder, config.warm_start_seed)
    checkpoint_dir = folder / "checkpoint"
    if checkpoint_dir.is_dir():
        progress.note(f"continues the interrupted one in {folder}")
    learner, noted = start_supervised_learner(config, model_dir, wanted.initial_adapter), set[WarmStartReport]()
    try:
        for message in learner.train(examples, held_back, folder / "adapter", checkpoint_dir):
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


def write_traces(folder: Path, selection: Selection) -> None:
    """Write the traces, and the table of what was kept and dropped, to be looked at and given to another run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TRACE_TABLE, selection.to_json())
    write_whole(folder / TRACES_FILE, trace_lines((*selection.train, *selection.held_back)))


def trace_examples(
    selection: Selection, encoder: PromptEncoder, seed: int
) -> tuple[tuple[WarmStartExample, ...], tuple[WarmStartExample, ...]]:
    """Return the examples to learn from and those of the held-back loss.

    Without a trace of the split `tune`, the traces of every tenth question, in an order drawn from the seed, are held
    back. Raises UserError where that leaves nothing to learn from.
    """
    train, held_back = selection.train, selection.held_back
    if not held_back:
        names = sorted({one.question.question_id for one in train})
        random.Random(f"{seed}/held-back traces").shuffle(names)
        held = set(names[::HELD_BACK_QUESTIONS])
        held_back = tuple(one for one in train if one.question.question_id in held)
        train = tuple(one for one in train if one.question.question_id not in held)
    if not train:
        raise UserError(
            "There are traces of one question alone, which leaves none for the held-back loss: sample more "
            "(warm_start.trace_samples), or give traces of more questions."
        )
    return (
        tuple(_trace_example(one, encoder.training_prompt, encoder) for one in train),
        tuple(_trace_example(one, encoder.prompt, encoder) for one in held_back),
    )


def _trace_example(
    trace: Trace, prompt_of: Callable[[Question], tuple[int, ...]], encoder: PromptEncoder
) -> WarmStartExample:
    return WarmStartExample(
        database_id=trace.question.database_id,
        prompt_token_ids=prompt_of(trace.question),
        answer_token_ids=encoder.completion(trace.completion),
    )


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
    traces: TraceWork | None = None,
) -> str:
    settings = config.warm_start
    # Later than the first caches: left at their defaults, they change no adapter.
    later = {"max_answer_tokens": None, "batch_databases": 1, "max_held_back_per_database": None}
    without = OF_TRACES | {"seed"} | {name for name, default in later.items() if getattr(settings, name) == default}
    base = model_digest(model_dir, config.run.home_dir)
    made_by = {
        "recipe": RECIPE_VERSION,
        "seed": config.warm_start_seed,
        "model": [base, config.model.model_dump(mode="json", exclude={"path", *FAMILY}), config.rollout.dtype],
        "sections": [
            settings.model_dump(mode="json", exclude=without),
            config.lora.model_dump(mode="json", exclude={"initial_adapter"}),
        ],
        "learner": config.learner.model_dump(mode="json", exclude=GRPO_ALONE),
        "examples": [asdict(example) for example in (*examples, *held_back)],
    }
    if initial_adapter is not None:
        made_by["initial adapter"] = adapter_digest(initial_adapter, config.run.home_dir)
    if traces is not None:
        made_by["traces"] = [traces.key, TRACES_VERSION, config.warm_start.max_traces_per_question]
    if FAMILIES.is_plugin(config.model.family):
        made_by["family"] = [config.model.family_arguments, plugin_sources(config, FAMILIES)]
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
