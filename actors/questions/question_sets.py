"""The three splits of a run: `train`, `tune` (early stopping, recipe) and `test` (the table alone)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from floe.actors.demo.build import write_demo
from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.prepared_folder import Prepared, read_prepared
from floe.actors.questions.questions import read_questions
from floe.cluster.databases.places import expected_path, find_database, not_a_folder
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular
from floe.configs.files.home_folder import make_writable
from floe.configs.files.paths import RELATIVE_RULE
from floe.configs.schema import DataSection

SPLITS = ("train", "tune", "test")

# Folder as the user gave it, ids of its databases, what names them: returns the folder with a SQLite file of each.
DatabaseFolder = Callable[[Path, Sequence[str], str], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSets:
    databases_dir: Path
    train: tuple[Question, ...]
    tune: tuple[Question, ...]
    test: tuple[Question, ...]
    pass_rates: Mapping[str, PassRate] = field(default_factory=dict)  # of training questions, where they were measured

    def split(self, name: str) -> tuple[Question, ...]:
        return {"train": self.train, "tune": self.tune, "test": self.test}[name]


def as_they_are(databases_dir: Path, database_ids: Sequence[str], named_by: str) -> Path:
    """Return the folder of SQLite files. Raises UserError where it lacks a database."""
    missing = [one for one in database_ids if find_database(databases_dir, one) is None]
    if missing:
        raise UserError(
            f"{len(missing)} databases of {named_by} are not in {databases_dir}, the first is '{missing[0]}': "
            f"put it at {expected_path(databases_dir, missing[0])}."
        )
    return databases_dir


def load_question_sets(data: DataSection, demo_dir: Path, databases: DatabaseFolder = as_they_are) -> QuestionSets:
    """Return the demo, written on first use, or the user's files split here. Raises UserError for bad files."""
    if data.source == "demo":
        try:
            write_demo(demo_dir)
        except OSError:
            make_writable(demo_dir)
            raise
        train, tune, test = (read_questions(demo_dir / f"{name}.json") for name in SPLITS)
        return limited_sets(data, demo_dir / "databases", train, tune, test)
    if data.source == "prepared":
        return _prepared(data)
    assert data.questions is not None and data.databases is not None
    questions_path, databases_dir = data.questions.expanduser().resolve(), data.databases.expanduser().resolve()
    if databases_dir.is_file():
        raise UserError(not_a_folder(databases_dir))
    if not databases_dir.is_dir():
        raise UserError(
            f"data.databases is {databases_dir}, which is not a folder: give the one of <db_id>/<db_id>.sqlite "
            f"({RELATIVE_RULE})."
        )
    questions = read_questions(questions_path)
    if data.verification is not None:
        questions = _verified(questions, data.verification.expanduser().resolve())
    ids = sorted({question.database_id for question in questions})
    databases_dir = databases(databases_dir, ids, str(questions_path))
    return limited_sets(data, databases_dir, *split_questions(questions, data.held_out_share))


def _prepared(data: DataSection) -> QuestionSets:
    assert data.prepared is not None
    found = prepared_questions(data, data.prepared)
    sets = limited_sets(data, found.databases_dir, found.splits["train"], found.splits["tune"], found.splits["test"])
    return replace(sets, pass_rates=found.pass_rates)


def prepared_questions(data: DataSection, folder: Path) -> Prepared:
    """Return the folder's questions, those for training filtered as the section asks. Raises UserError."""
    found = read_prepared(folder.expanduser().resolve())
    train, rates = found.splits["train"], found.pass_rates
    if not rates and (data.filter_by_pass_rate or data.sampler == "middle"):
        raise UserError(
            f"data.filter_by_pass_rate and data.sampler 'middle' need pass rates, which {folder} has not: "
            "run floe prepare again with --measure-pass-rate CONFIG."
        )
    if data.filter_by_pass_rate:
        train = tuple(one for one in train if one.question_id not in rates or 0 < rates[one.question_id].share < 1)
    return replace(found, splits={**found.splits, "train": train})


def _verified(questions: Sequence[Question], path: Path) -> list[Question]:
    """Return questions whose status is `ok` in a file `{"status": [{"index", "status"}, ...]}` over the same order."""
    try:
        status = {entry["index"]: entry["status"] for entry in parsed_json(read_regular(path))["status"]}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UserError(
            f"Can't read data.verification {path} ({fault}): give a status file, or leave it out ({RELATIVE_RULE})."
        ) from fault
    return [question for index, question in enumerate(questions) if status.get(index) == "ok"]


def split_questions(
    questions: Sequence[Question], share: float
) -> tuple[list[Question], list[Question], list[Question]]:
    """Hold out whole databases; with fewer than four of them whole golds, so that no answer is seen in training."""
    by_database = len({question.database_id for question in questions}) >= 4

    def key(question: Question) -> str:
        return question.database_id if by_database else question.gold_sql[0]

    keys = sorted({key(question) for question in questions})
    random.Random("splits").shuffle(keys)
    num_held = max(1, round(share * len(keys)))
    tune_keys, test_keys = set(keys[:num_held]), set(keys[num_held : 2 * num_held])
    tune = [question for question in questions if key(question) in tune_keys]
    test = [question for question in questions if key(question) in test_keys]
    train = [question for question in questions if key(question) not in tune_keys | test_keys]
    return train, tune, test


def limited_sets(
    data: DataSection,
    databases_dir: Path,
    train: Sequence[Question],
    tune: Sequence[Question],
    test: Sequence[Question],
) -> QuestionSets:
    """Return at most as many questions as the section asks for. Raises UserError for a split without any."""

    def some(questions: Sequence[Question], limit: int, name: str) -> tuple[Question, ...]:
        if not questions:
            raise UserError(f"The split '{name}' has no question: give more questions, or another data.held_out_share.")
        order = list(questions)
        if limit < len(order):
            random.Random(f"limit/{name}").shuffle(order)
        return tuple(order[:limit])

    return QuestionSets(
        databases_dir=databases_dir,
        train=some(train, data.max_train_questions, "train"),
        tune=some(tune, data.max_eval_questions, "tune"),
        test=some(test, data.max_eval_questions, "test"),
    )
