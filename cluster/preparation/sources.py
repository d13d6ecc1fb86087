"""The sources of `floe prepare`: question files and the folders of their databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from floe.actors.layouts.interface import Layout, Split
from floe.actors.layouts.registry import find_files
from floe.actors.questions.questions import find_questions
from floe.actors.questions.selection import BAD_RECORD
from floe.actors.records.question_records import FoundQuestions
from floe.actors.records.record_files import Record, read_records
from floe.cluster.databases.places import SUFFIXES
from floe.configs.errors import UserError

ALL: Split = "all"  # to be divided into train, tune and test later


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    split: Split  # `train` (a part is held back as `tune`), `test` or ALL
    questions: Path
    databases_dir: Path
    records: Callable[[Path], list[Record]] = read_records
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # names as given; others are guessed
    database_id: str | None = None  # database of records that name none
    schema_texts: Callable[[Path], Mapping[str, str]] | None = None  # given where the databases have to be made


def layout_sources(
    folder: Path, databases_dir: Path | None, layout: Layout | None, fields: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return the sources of a data set's folder, and a note of the layout and of each file that is not used.

    Raises UserError for a folder that is in no layout, or not in the one that is given.
    """
    found, files = find_files(folder, databases_dir, layout)
    sources = tuple(
        Source(
            split=one.split,
            questions=one.questions,
            databases_dir=one.databases_dir,
            records=found.records,
            fields=fields,
            schema_texts=found.schema_texts,
        )
        for one in files
    )
    said = () if layout is not None else (f"{folder} is in the layout of {found.name}: {found.summary}",)
    return sources, (*said, *found.unused(folder.expanduser().resolve()))


def file_sources(
    questions: Path, databases: Path, fields: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Source, ...]:
    """Return the one source; a single database file, or a folder that holds only one, serves all questions.

    Raises UserError for databases that are not there.
    """
    databases = databases.expanduser().resolve()
    only_one: str | None = None
    place = databases
    if databases.is_file():
        place, only_one = databases.parent, databases.stem
    elif databases.is_dir():
        files = [one for one in databases.iterdir() if one.suffix in SUFFIXES and not one.name.startswith(".")]
        has_folders = any(one.is_dir() for one in databases.iterdir())
        only_one = files[0].stem if len(files) == 1 and not has_folders else None
    else:
        raise UserError(f"There is no databases folder {databases}: give one that holds SQLite files.")
    path = questions.expanduser().resolve()
    return (Source(split=ALL, questions=path, databases_dir=place, fields=fields or {}, database_id=only_one),)


def questions_of(source: Source) -> FoundQuestions:
    """Return the questions; those without an id get one from their file and their index there."""
    try:
        records = source.records(source.questions)
    except (OSError, ValueError) as fault:  # error of a file that a layout reads in addition to the questions
        raise UserError(f"Can't read what belongs to {source.questions} ({fault}): correct it.") from fault
    found = find_questions(source.questions, records, source.fields, source.database_id)
    return found if found.has_ids else with_ids_of(source.questions, found)


def with_ids_of(path: Path, found: FoundQuestions) -> FoundQuestions:
    """Return the questions with ids that no other file's questions have."""
    named = tuple(replace(one, question_id=f"{path.stem}-{one.question_id}") for one in found.questions)
    bad = tuple(replace(one, question_id=f"{path.stem}-{one.question_id}") for one in found.bad)
    return replace(found, questions=named, bad=bad)


def with_own_ids(found: Sequence[tuple[Source, FoundQuestions]]) -> list[tuple[Source, FoundQuestions]]:
    """Add file names to the question ids of files that share ids: BIRD's train and dev both count from 0."""
    files_of: dict[str, set[Path]] = {}
    for source, one in found:
        for question in one.questions:
            files_of.setdefault(question.question_id, set()).add(source.questions)
    shared = {path for paths in files_of.values() if len(paths) > 1 for path in paths}
    stems = Counter(path.stem for path in shared)
    for stem in (stem for stem, number in stems.items() if number > 1):
        paths = ", ".join(str(path) for path in sorted(shared) if path.stem == stem)
        raise UserError(f"{paths} have question_ids in common: rename the files, or give each question its own id.")
    return [
        (source, with_ids_of(source.questions, one) if source.questions in shared else one) for source, one in found
    ]


def notes_of(found: Sequence[tuple[Source, FoundQuestions]]) -> list[str]:
    return [f"{source.questions}: {note}" for source, one in found for note in one.notes]


def bad_records(found: Sequence[tuple[Source, FoundQuestions]]) -> list[dict[str, str]]:
    """Return the bad records in the form of `dropped.jsonl`."""
    return [
        {
            "split": "train" if source.split == ALL else source.split,
            "question_id": bad.question_id,
            "db_id": bad.database_id,
            "reason": BAD_RECORD,
            "detail": f"{source.questions}, {bad.where} {bad.detail}",
        }
        for source, one in found
        for bad in one.bad
    ]
