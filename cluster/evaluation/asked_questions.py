"""Collects the questions of an evaluation: a split of the configuration's data, or a benchmark folder's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from floe.actors.layouts.registry import EvaluationSet, evaluation_set
from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.chosen import chosen_questions
from floe.actors.questions.questions import find_questions, ids_of_records
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.databases.places import database_path
from floe.cluster.evaluation.saved_evaluation import QuestionRecord
from floe.cluster.evaluation.submissions import bird_submission, spider_submission
from floe.cluster.messages import Question
from floe.cluster.questions.fitting import encoder_of_run, fitting_questions
from floe.cluster.questions.prompt_lengths import budget_of
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

STRICT_LAYOUTS = ("spider", "bird")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions of an evaluation. Prompts of `too_long` don't fit the context: these count as wrong answers."""

    databases_dir: Path
    encoder: PromptEncoder
    questions: tuple[Question, ...]
    too_long: tuple[Question, ...] = ()
    in_file: tuple[tuple[str, str], ...] = ()  # question and database id of each record of a benchmark's file
    is_bird: bool = False

    @property
    def fitting(self) -> tuple[Question, ...]:
        """Questions that the policy is asked."""
        too_long = {question.question_id for question in self.too_long}
        return tuple(question for question in self.questions if question.question_id not in too_long)

    def write_predictions(self, path: Path, records: Sequence[QuestionRecord], progress: Progress) -> None:
        """Write in the benchmark's format; a question not asked or without SQL gets a query that is no answer."""
        known = {record.question_id: record.greedy.sql for record in records}
        sql_by_id = {question_id: known.get(question_id) for question_id, _ in self.in_file}
        if self.is_bird:
            text = bird_submission(self.in_file, sql_by_id)
        else:
            text, num_broken = spider_submission([question_id for question_id, _ in self.in_file], sql_by_id)
            if num_broken:
                progress.note(f"{num_broken} predictions hold a line break or tab in quotes and are given as no answer")
        try:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as fault:
            raise UserError(f"Can't write {path} ({fault.strerror}): choose another --predictions.") from fault
        progress.note(f"predictions of {len(self.in_file)} questions: {path}")


def asked_of_split(config: RunConfig, model_dir: Path, progress: Progress) -> Asked:
    """Return the split as a training run with this configuration asks it: prompts that don't fit are left out."""
    sets = sets_of_run(config)
    encoder = encoder_of_run(config, model_dir, sets.databases_dir)
    fitting = fitting_questions(sets, encoder, config, progress).split(config.evaluation.split)
    chosen = chosen_questions(fitting, config.evaluation.max_questions, config.evaluation.choice)
    return Asked(databases_dir=sets.databases_dir, encoder=encoder, questions=tuple(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A data set's folder, and where given the part of it that is asked and the folder of its databases."""

    folder: Path
    part: str | None = None
    databases_dir: Path | None = None


def asked_of_archive(config: RunConfig, model_dir: Path, progress: Progress, benchmark: Benchmark) -> Asked:
    """Return `evaluation.max_questions` of a part of the data set; of the usual one, unless it names another.

    Questions whose database is missing are left out, with a note that counts them. Raises UserError without any left.
    """
    found = evaluation_set(benchmark.folder, benchmark.part, benchmark.databases_dir)
    listed, in_file = listed_questions(found, progress.note)
    listed = chosen_questions(listed, config.evaluation.max_questions, config.evaluation.choice)
    databases_dir = found.databases_dir
    questions = [one for one in listed if database_path(databases_dir, one.database_id).is_file()]
    missing = sorted({one.database_id for one in listed} - {one.database_id for one in questions})
    files = ", ".join(str(path) for path in found.questions)
    progress.note(f"{len(questions)} questions of {files}, databases {databases_dir}")
    for sentence in advice(found, config):
        progress.note(sentence)
    if missing:
        names = ", ".join(missing)
        progress.note(f"{len(listed) - len(questions)} questions left out, their databases are missing: {names}")
    if not questions:
        raise UserError(f"No question of {files} has its database in {databases_dir}: unpack the databases there.")
    listed_ids = {one.question_id for one in listed}
    return replace(
        asked_of_questions(config, model_dir, progress, questions, databases_dir),
        in_file=tuple(ids for ids in in_file if ids[0] in listed_ids),
        is_bird=found.layout.name == "bird",
    )


def listed_questions(
    found: EvaluationSet, note: Callable[[str], object]
) -> tuple[list[Question], list[tuple[str, str]]]:
    """Return the questions, and question and database id of every record, repeated ones included.

    Ids that count from 0 in each of several files get their file's name. Records of Spider's and BIRD's own files have
    to be questions; of other sets those that are none are left out, with a note.
    """
    questions: list[Question] = []
    in_file: list[tuple[str, str]] = []
    for path in found.questions:
        records = found.layout.records(path)
        read = find_questions(path, records)
        if read.bad and found.layout.name in STRICT_LAYOUTS:
            raise UserError(f"In {path}, {read.bad[0].where} {read.bad[0].detail}.")
        if read.bad:
            first = f"{read.bad[0].where} {read.bad[0].detail}"
            note(f"{len(read.bad)} of {len(records)} records of {path} are left out, the first: {first}")
        name = f"{path.parent.name}-{path.stem}-" if len(found.questions) > 1 and not read.has_ids else ""
        questions += [replace(one, question_id=f"{name}{one.question_id}") for one in read.questions]
        in_file += [(f"{name}{question_id}", database_id) for question_id, database_id in ids_of_records(records)]
    return questions, in_file


def advice(found: EvaluationSet, config: RunConfig) -> list[str]:
    """Return what whoever evaluates on the set should know, one sentence each."""
    layout, reward = found.layout, config.reward
    said = [f"layout {layout.name}, part {found.part}"]
    if layout.semantics not in (None, reward.semantics):
        said.append(
            f"its own evaluation compares as reward.semantics={layout.semantics} does; this one as {reward.semantics}"
        )
    if found.part in layout.suite_parts and reward.suite is None:
        said.append(
            "its published figures are mostly test-suite accuracy: set reward.semantics=spider and reward.suite, the "
            "folder of the test-suite databases"
        )
    return [*said, layout.advice] if layout.advice else said


def asked_of_questions(
    config: RunConfig, model_dir: Path, progress: Progress, questions: Sequence[Question], databases_dir: Path
) -> Asked:
    """Return all of the questions; those whose prompts don't fit count as wrong."""
    encoder = encoder_of_run(config, model_dir, databases_dir)
    encoded = [encoder.encoded(one) for one in questions]
    too_long = [one for one, prompt in zip(questions, encoded, strict=True) if prompt.refused]
    progress.note(budget_of(encoded).sentence(config.max_prompt_tokens))
    if too_long:
        progress.note(f"{len(too_long)} prompts that do not fit count as wrong (model.max_context_tokens)")
    return Asked(databases_dir=databases_dir, encoder=encoder, questions=tuple(questions), too_long=tuple(too_long))
