"""`floe prepare`: checks every gold by running it, drops what cannot be used, and writes a prepared folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from floe.actors.prompting.description_check import description_faults
from floe.actors.questions.held_back import hold_back, is_divided_by_database
from floe.actors.questions.normal_forms import normal_sql
from floe.actors.questions.pass_rates import PASS_RATES_FILE
from floe.actors.questions.prepared_folder import (
    DATABASES_FOLDER,
    DROPPED_FILE,
    MANIFEST_FILE,
    SPLITS,
    VERDICTS_FILE,
    link_databases,
    write_if_changed,
    write_lines,
    write_splits,
)
from floe.actors.questions.questions import read_questions
from floe.actors.questions.selection import Overlap, Selection, select
from floe.actors.records.fields import names_of_fields
from floe.cluster.evaluation.split_sizes import split_warnings
from floe.cluster.messages import GoldInspection, Question
from floe.cluster.preparation.clock import at_the_folders_clock
from floe.cluster.preparation.databases import FoundDatabases, find_databases
from floe.cluster.preparation.gold_check_log import VerdictLog
from floe.cluster.preparation.gold_checks import GoldChecks
from floe.cluster.preparation.report import PreparationReport
from floe.cluster.preparation.sources import ALL, Source, bad_records, notes_of, questions_of, with_own_ids
from floe.cluster.terminal.progress import make_console
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.sections.reward_sections import RewardSection

MANIFEST_VERSION = 2  # raised when the same inputs give other files


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    reward: RewardSection  # time limit, other limits and workers
    evaluation: tuple[Path, ...] = ()  # question files that training must not overlap with
    held_out_share: float = 0.1  # of the training databases for `tune`, and as much for `test` where no file is
    seed: int = 1
    as_json: bool = False
    notes: tuple[str, ...] = ()  # of the sources, for the report


def prepare(destination: Path, sources: Sequence[Source], options: PrepareOptions) -> Path:
    """Make, continue or update the prepared folder, print its table, and return its path.

    Raises UserError for bad inputs, and for a folder that holds something else.
    """
    found = with_own_ids([(source, questions_of(source)) for source in sources])
    questions = [(source, one.questions) for source, one in found]
    if not any(asked for _, asked in questions):
        first = next(one for one in bad_records(found))
        raise UserError(
            f"No record is a question: {first['detail']}; correct it, or say with --fields which field is what, as in "
            f"--fields question=FIELD,sql=FIELD; the names are {names_of_fields()}."
        )
    evaluation = {str(path): read_questions(path.expanduser()) for path in options.evaluation}
    folder = _open_folder(destination.expanduser().resolve())
    with VerdictLog(folder / VERDICTS_FILE) as log:
        databases = find_databases(questions, folder)
        options = replace(options, reward=at_the_folders_clock(options.reward, log, folder))
        inputs = _inputs(sources, options, databases)
        _leave_earlier_inputs(folder, inputs)
        link_databases(folder, databases.files)
        checks = GoldChecks(
            databases_dir=folder / DATABASES_FOLDER,
            digests=databases.digests,
            settings=options.reward,
            log=log,
            shows_progress=True,
        )
        golds = {
            (one.database_id, sql): None
            for _, asked in questions
            for one in asked
            if one.database_id in databases.files
            for sql in one.gold_sql
        }
        inspections = checks.golds(golds)
        broken = checks.broken_texts(databases.tables)
        selections = _select(questions, databases, inspections, Overlap.of(evaluation), options)
        warnings = [
            *options.notes,
            *notes_of(found),
            *databases.notes,
            *_warnings(questions, databases, broken, selections),
        ]
        report = _write(folder, inputs, selections, options, warnings, bad_records(found))
    if options.as_json:
        print(report.to_json())
    else:
        report.render(make_console())
    return folder


def _open_folder(folder: Path) -> Path:
    if folder.is_file():
        raise UserError(f"{folder} is a file: give a new folder, or one that floe prepare made.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / VERDICTS_FILE).is_file():
        raise UserError(f"{folder} holds something else than a prepared folder: give a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _inputs(sources: Sequence[Source], options: PrepareOptions, databases: FoundDatabases) -> dict[str, Any]:
    """Return the part of the manifest that says what a folder was made of; the rest follows from it."""
    return {
        "version": MANIFEST_VERSION,
        "sources": [
            {
                "split": source.split,
                "questions": str(source.questions),
                "sha256": _sha256(source.questions),
                "databases": str(source.databases_dir),
            }
            for source in sources
        ],
        "evaluation": [{"questions": str(path), "sha256": _sha256(path.expanduser())} for path in options.evaluation],
        "databases": {
            one: {"file": str(path), "xxh3_128": databases.digests[one]} for one, path in databases.files.items()
        },
        "missing_databases": dict(databases.missing),
        "limits": options.reward.model_dump(
            mode="json", include={"time_limit_s", "max_rows", "max_result_bytes", "max_memory_bytes"}
        ),
        "clock": options.reward.clock,
        "held_out_share": options.held_out_share,
        "seed": options.seed,
    }


def _leave_earlier_inputs(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Mark a folder of other inputs as unfinished until it is made again; its verdicts count where they still fit."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return
    earlier = _earlier_manifest(path)
    if {name: earlier.get(name) for name in inputs} == inputs:
        return
    changed = [name for name in inputs if earlier.get(name) != inputs[name]]
    note = make_console(stderr=True)
    note.print(f"{folder} was made with other {', '.join(changed)}: it is made again.", soft_wrap=True)
    path.unlink()
    rates = folder / PASS_RATES_FILE
    if "sources" in changed and rates.is_file():
        note.print(f"{rates} is of other questions: it is removed.", soft_wrap=True)
        rates.unlink()


def _earlier_manifest(path: Path) -> dict[str, Any]:
    """Return the earlier manifest; empty for a damaged file, which counts as one of other inputs."""
    try:
        earlier = parsed_json(path.read_bytes())
    except ValueError:
        return {}
    return earlier if isinstance(earlier, dict) else {}


def _select(
    questions: Sequence[tuple[Source, Sequence[Question]]],
    databases: FoundDatabases,
    inspections: Mapping[tuple[str, str], GoldInspection],
    overlap: Overlap,
    options: PrepareOptions,
) -> dict[str, Selection]:
    """Return the questions by split of the sources.

    The test split comes first: of two equal questions it keeps its own.
    """
    seen: dict[tuple[str, str], str] = {}
    selections: dict[str, Selection] = {}
    for name in sorted({source.split for source, _ in questions}, key=("test", "train", ALL).index):
        asked = [one for source, of_it in questions if source.split == name for one in of_it]
        forbidden = overlap if name != "test" else Overlap.of({})
        limit_s = options.reward.time_limit_s
        selections[name] = select(asked, databases.missing, inspections, forbidden, limit_s, seen)
    return selections


def _write(
    folder: Path,
    inputs: Mapping[str, Any],
    selections: Mapping[str, Selection],
    options: PrepareOptions,
    warnings: list[str],
    bad_records: Sequence[dict[str, str]],
) -> PreparationReport:
    """Write the folder; the manifest comes last, so that a folder with one is whole."""
    splits: dict[str, tuple[Question, ...]] = dict.fromkeys(SPLITS, ())
    shared_out: dict[tuple[str, ...], Sequence[Question]] = {}
    dropped = list(bad_records)
    for name, selection in selections.items():
        names = {"test": ("test",), "train": ("train", "tune"), ALL: SPLITS}[name]
        divided = {name: selection.kept}
        by_database = is_divided_by_database(selection.kept, len(names))
        if name != "test":
            shared_out[names] = selection.kept
            divided = hold_back(selection.kept, names, options.held_out_share, options.seed)
            if not by_database and selection.kept:
                warnings.append("there are fewer databases than splits: held back are gold queries, not databases")
        splits |= divided
        split_of = {_key(one, by_database): split for split, kept in divided.items() for one in kept}
        dropped += [
            {
                "split": split_of.get(_key(one.question, by_database), names[0]),
                "question_id": one.question.question_id,
                "db_id": one.question.database_id,
                "reason": one.reason,
                "detail": one.detail,
            }
            for one in selection.dropped
        ]
    warnings = [*split_warnings(splits, shared_out, options.seed), *warnings]  # first, for few of them are shown
    report = PreparationReport.of(folder, splits, dropped, warnings)
    write_splits(folder, splits)
    write_lines(folder / DROPPED_FILE, dropped)
    manifest = {**inputs, "counts": report.counts(), "warnings": warnings}
    write_if_changed(folder / MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return report


def _key(question: Question, by_database: bool) -> str:
    return question.database_id if by_database else normal_sql(question.gold_sql[0])


def _warnings(
    questions: Sequence[tuple[Source, Sequence[Question]]],
    databases: FoundDatabases,
    broken: Mapping[str, Mapping[str, int]],
    selections: Mapping[str, Selection],
) -> list[str]:
    lines = [
        f"{databases.files[database_id]}, table {table}, row {row}: text that is not UTF-8; it is read losslessly"
        for database_id, rows in broken.items()
        for table, row in rows.items()
    ]
    folders = {
        one.database_id: source.databases_dir / one.database_id / "database_description"
        for source, asked in questions
        for one in asked
    }
    for database_id, folder in folders.items():
        lines += description_faults(folder, databases.tables.get(database_id, ()))
    for selection in selections.values():
        lines += [
            f"question {one.question.question_id}: one of its golds is left out ({one.reason}: {one.detail})"
            for one in selection.left_out_golds
        ]
    return lines


def num_usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
