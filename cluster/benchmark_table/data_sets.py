"""The questions of a benchmark: of a prepared folder, a data set's folder in any layout, or a single file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from floe.actors.layouts.interface import Layout
from floe.actors.layouts.registry import LAYOUTS, EvaluationSet, evaluation_set, layout_named
from floe.actors.questions.prepared_folder import MANIFEST_FILE, clock_of_prepared, read_prepared
from floe.cluster.benchmark_table.table_file import Benchmark
from floe.cluster.databases.places import find_database
from floe.cluster.evaluation.asked_questions import listed_questions
from floe.cluster.messages import Question
from floe.cluster.preparation.sources import (
    Source,
    bad_records,
    file_sources,
    layout_sources,
    questions_of,
    with_own_ids,
)
from floe.configs.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Questions whose databases are here, at most as many as asked for; `clock` is that of a prepared folder."""

    questions: tuple[Question, ...]
    databases_dir: Path
    notes: tuple[str, ...] = ()
    clock: str | None = None
    found: EvaluationSet | None = None  # where the folder's layout says more about its evaluation


def data_set(benchmark: Benchmark) -> DataSet:
    """Read a benchmark's questions. Raises UserError for a data set that is missing or broken."""
    if benchmark.questions is not None:
        return _of_file(benchmark, benchmark.questions)
    folder = _folder(benchmark)
    if (folder / MANIFEST_FILE).is_file():
        return _of_prepared(benchmark, folder)
    if benchmark.layout is not None or benchmark.split == "train":
        return _of_layout(benchmark, folder)
    return _of_evaluation_set(benchmark, folder)


def _folder(benchmark: Benchmark) -> Path:
    assert benchmark.data is not None
    folder = benchmark.data.resolve()
    if not folder.is_dir():
        raise UserError(f"There is no data folder {folder}: give the unpacked folder of a data set, or a prepared one.")
    return folder


def _of_file(benchmark: Benchmark, path: Path) -> DataSet:
    """Read the file as the layout of its folder has it; a file that belongs to none has records of its own."""
    assert benchmark.databases is not None
    if not path.is_file():
        raise UserError(f"There is no questions file {path}: give an existing one.")
    path = path.resolve()
    (source,) = file_sources(path, benchmark.databases)
    layout = _layout_of(path, benchmark)
    if layout is not None:
        source = replace(source, database_id=None, records=layout.records, schema_texts=layout.schema_texts)
    return _of_sources(benchmark, [source])


def _layout_of(path: Path, benchmark: Benchmark) -> Layout | None:
    """Return the layout in which the file's folder has it; None for a file of one's own. Raises UserError in doubt."""
    if benchmark.layout is not None:
        return layout_named(benchmark.layout)
    doubt: UserError | None = None
    for one in LAYOUTS:
        try:
            if any(file.questions.resolve() == path for file in one.find(path.parent, benchmark.databases)):
                return one
        except UserError as fault:  # of a file beside it, perhaps
            doubt = doubt or fault
    if doubt is not None:
        raise UserError(f"{str(doubt).rstrip('.')}; or name the layout of {path.name} with 'layout'.")
    return None


def _of_prepared(benchmark: Benchmark, folder: Path) -> DataSet:
    prepared = read_prepared(folder)
    name = benchmark.split or "test"
    if not prepared.splits.get(name):
        there = ", ".join(one for one, questions in prepared.splits.items() if questions)
        raise UserError(f"The prepared folder {folder} has no question in a split '{name}': choose one of {there}.")
    databases_dir = benchmark.databases or prepared.databases_dir
    return _chosen(benchmark, prepared.splits[name], databases_dir, str(folder), (), clock_of_prepared(folder))


def _of_evaluation_set(benchmark: Benchmark, folder: Path) -> DataSet:
    """Read the part that `floe evaluate --data` would ask, with the same ids."""
    found = evaluation_set(folder, benchmark.split, benchmark.databases)
    notes: list[str] = []
    questions, _ = listed_questions(found, notes.append)
    where = ", ".join(str(path) for path in found.questions)
    return replace(_chosen(benchmark, questions, found.databases_dir, where, tuple(notes)), found=found)


def _of_layout(benchmark: Benchmark, folder: Path) -> DataSet:
    layout = None if benchmark.layout is None else layout_named(benchmark.layout)
    sources, _ = layout_sources(folder, benchmark.databases, layout, {})
    there = sorted({one.split for one in sources})
    split = benchmark.split or ("test" if "test" in there else "all" if "all" in there else "test")
    chosen = [one for one in sources if one.split == split]
    if not chosen:
        raise UserError(f"{folder} has no split {split}: set 'split' to one that it has ({', '.join(there)}).")
    return _of_sources(benchmark, chosen)


def _of_sources(benchmark: Benchmark, sources: Sequence[Source]) -> DataSet:
    places = {one.databases_dir for one in sources}
    if len(places) > 1 or any(one.schema_texts is not None for one in sources):
        raise UserError(
            f"The questions of '{benchmark.name}' have databases in several folders, or none that are made already: "
            "bring them together with floe prepare, and give the folder that it writes."
        )
    found = with_own_ids([(one, questions_of(one)) for one in sources])
    questions = [question for _, one in found for question in one.questions]
    bad = bad_records(found)
    notes = (f"{len(bad)} records are no questions and are left out, the first: {bad[0]['detail']}",) if bad else ()
    where = ", ".join(str(one.questions) for one in sources)
    return _chosen(benchmark, questions, places.pop(), where, notes)


def _chosen(
    benchmark: Benchmark,
    questions: Sequence[Question],
    databases_dir: Path,
    where: str,
    notes: tuple[str, ...] = (),
    clock: str | None = None,
) -> DataSet:
    """Return the first questions whose databases are here. Raises UserError without any."""
    if not databases_dir.is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    names = sorted({one.database_id for one in questions})
    missing = [one for one in names if find_database(databases_dir, one) is None]
    usable = [one for one in questions if one.database_id not in missing]
    if not usable:
        raise UserError(f"No question of {where} has its database in {databases_dir}: unpack the databases there.")
    if missing:
        left_out = len(questions) - len(usable)
        notes = (*notes, f"{left_out} of {len(questions)} questions left out: {len(missing)} databases are missing")
    return DataSet(questions=tuple(usable[: benchmark.limit]), databases_dir=databases_dir, notes=notes, clock=clock)
