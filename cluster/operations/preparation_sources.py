"""What `floe prepare` starts from: question files and the folders of their databases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from actors.data.archives import ArchiveSplit, Layout, find_archive
from actors.data.questions import first_record, read_questions
from cluster.messages import Question
from configs.errors import UserError

ALL = "all"  # to be divided into train, tune and test


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    split: str  # `train` (a part is held back as `tune`), `test` or ALL
    questions: Path
    databases_dir: Path


def archive_sources(folder: Path, databases_dir: Path | None, layout: Layout) -> tuple[Source, ...]:
    """`train` of the archive's training files; `test` of its dev file, or of BIRD's mini-dev where that is all."""
    archive = find_archive(folder, databases_dir, layout)
    test = archive.split("dev") or archive.split("mini_dev")
    if test is None and archive.split("train") is None:
        raise UserError(
            f"{archive.folder} has neither training nor dev questions of {layout}: nothing can be prepared."
        )
    return (*_sources("train", archive.split("train")), *_sources("test", test))


def file_sources(questions: Path, databases_dir: Path) -> tuple[Source, ...]:
    """Raises UserError for a databases folder that is not there."""
    databases_dir = databases_dir.expanduser().resolve()
    if not databases_dir.is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds SQLite files.")
    return (Source(split=ALL, questions=questions.expanduser().resolve(), databases_dir=databases_dir),)


def questions_of(source: Source) -> list[Question]:
    """A question keeps the id that its record gives; else it is called for its file and its index there."""
    questions = read_questions(source.questions)
    if "question_id" in first_record(source.questions):
        return questions
    return [replace(one, question_id=f"{source.questions.stem}-{one.question_id}") for one in questions]


def _sources(name: str, split: ArchiveSplit | None) -> tuple[Source, ...]:
    files = () if split is None else split.files
    return tuple(Source(split=name, questions=one.questions, databases_dir=one.databases_dir) for one in files)
