"""Questions that a plug-in gives, checked as those of files are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from floe.actors.questions.question_sets import (
    SPLITS,
    DatabaseFolder,
    QuestionSets,
    limited_sets,
    split_questions,
)
from floe.actors.records.fields import guessed_fields
from floe.actors.records.question_records import found_questions
from floe.actors.records.record_files import Record
from floe.actors.sources.interface import LoadedQuestions
from floe.cluster.messages import Question
from floe.configs.errors import UserError, first_line
from floe.configs.files.home_folder import make_writable
from floe.configs.plugins.faults import place_of
from floe.configs.plugins.kinds import DATA_SOURCES
from floe.configs.plugins.making import made
from floe.configs.schema import DataSection

WHOLE = "questions"
FORM = "give a mapping with db_id, question and query, or a floe.Question"


def own_sets(data: DataSection, home_dir: Path, plugin_folder: Path | None, databases: DatabaseFolder) -> QuestionSets:
    """Return the plug-in's questions in their splits. Raises UserError for what is no question, naming it."""
    source = made(DATA_SOURCES, data.source, data.arguments, plugin_folder)
    who = f"{DATA_SOURCES.key} is {data.source!r}"
    folder = home_dir / "sources" / data.source.replace(":", ".")
    make_writable(folder)
    loaded = _loaded(source, folder, who)
    splits = _splits(loaded, who)
    databases_dir = _databases_dir(loaded, who)
    ids = sorted({question.database_id for split in splits.values() for question in split})
    databases_dir = databases(databases_dir, ids, f"the source {data.source}")
    if WHOLE in splits:
        return limited_sets(data, databases_dir, *split_questions(splits[WHOLE], data.held_out_share))
    return limited_sets(data, databases_dir, splits["train"], splits["tune"], splits["test"])


def _loaded(source: Any, folder: Path, who: str) -> LoadedQuestions:
    try:
        loaded = source.load(folder)
    except UserError:
        raise
    except (Exception, SystemExit) as fault:
        raise UserError(
            f"{who}, whose load(...) raised {type(fault).__name__} ({first_line(fault)}) at "
            f"{place_of(fault)}: correct it, or {DATA_SOURCES.arguments_key}."
        ) from fault
    if not isinstance(loaded, LoadedQuestions):
        raise UserError(
            f"{who}, whose load(...) returned a {type(loaded).__name__}: return floe.plugins.LoadedQuestions."
        )
    return loaded


def _databases_dir(loaded: LoadedQuestions, who: str) -> Path:
    if not isinstance(loaded.databases, str | Path) or not Path(loaded.databases).expanduser().is_dir():
        raise UserError(
            f"{who}, which gives {str(loaded.databases)!r} as its databases, and that is not a folder: give the one of "
            "<db_id>/<db_id>.sqlite."
        )
    return Path(loaded.databases).expanduser().resolve()


def _splits(loaded: LoadedQuestions, who: str) -> dict[str, tuple[Question, ...]]:
    """Return the questions of each list that is given: of `questions` alone, or of all three splits."""
    for name in (WHOLE, *SPLITS):
        if not isinstance(getattr(loaded, name), Sequence) or isinstance(getattr(loaded, name), str):
            raise UserError(f"{who}, whose {name} is a {type(getattr(loaded, name)).__name__}: give a list.")
    given = [name for name in (WHOLE, *SPLITS) if getattr(loaded, name)]
    if not given:
        raise UserError(f"{who}, which gives no question: give some.")
    if given not in ([WHOLE], [*SPLITS]):
        raise UserError(
            f"{who}, which gives {', '.join(given)}: give questions alone, or train, tune and test, each with some."
        )
    places = count()
    records = {name: list(_records(getattr(loaded, name), name, places)) for name in given}
    fields = guessed_fields((one.value for split in records.values() for one in split), {})
    found = {}
    for name, split in records.items():
        checked = found_questions(split, fields)
        if checked.bad:
            raise UserError(f"{who}, and {checked.bad[0].where} {checked.bad[0].detail}.")
        found[name] = checked.questions
    _check_apart(found, who)
    return found


def _check_apart(splits: Mapping[str, Sequence[Question]], who: str) -> None:
    home: dict[str, str] = {}
    for name, questions in splits.items():
        for question in questions:
            if (other := home.setdefault(question.question_id, name)) != name:
                raise UserError(
                    f"{who}, and the question_id {question.question_id!r} is both in {other} and in {name}: give each "
                    "question once, with an id of its own."
                )


def _records(given: Sequence[Any], name: str, places: Iterator[int]) -> Iterator[Record]:
    """Yield the records that a file of these questions would hold."""
    for number, (one, place) in enumerate(zip(given, places, strict=False)):
        where = f"entry {number} of {name}"
        value = _record(one)
        fault = f"is a {type(one).__name__}: {FORM}" if value is None else ""
        yield Record(where=where, index=place, value=value, fault=fault)


def _record(one: Any) -> dict[str, Any] | None:
    if isinstance(one, Mapping):
        return dict(one)
    one_id: str | None
    if isinstance(one, Question):
        one_id, database_id, text = one.question_id, one.database_id, one.text
    elif all(hasattr(one, name) for name in ("db_id", "question", "gold_sql")):
        one_id, database_id, text = getattr(one, "question_id", None), one.db_id, one.question
    else:
        return None
    return {
        "question_id": one_id,
        "db_id": database_id,
        "question": text,
        "query": one.gold_sql,
        "evidence": getattr(one, "evidence", ""),
        "difficulty": getattr(one, "difficulty", ""),
    }
