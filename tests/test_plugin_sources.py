"""Sources of questions of a user's own: what they may give, and what is refused by the question's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.plugins.checks import check_plugins
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from tests.score_requests import make_database

MODULE = """
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.plugins import LoadedQuestions

HERE = Path(__file__).parent

def row(number, **changes):
    return {"db_id": "d", "question": f"What is {number}?", "query": f"SELECT {number}"} | changes

@dataclass
class Asked:
    db_id: str
    question: str
    gold_sql: object
    evidence: str = ""

class Rows:
    def __init__(self, number=30):
        self.number = number

    def load(self, folder):
        (folder / "seen").write_text("kept")
        return LoadedQuestions(databases=HERE, questions=[row(one) for one in range(self.number)])

class Splits:
    def load(self, folder):
        return LoadedQuestions(
            databases=HERE,
            train=[row(1, evidence="of 1"), Asked("d", "Who?", ["SELECT 2", "SELECT 2.0"])],
            tune=[Question(question_id="q", database_id="d", text="Where?", gold_sql=("SELECT 3",))],
            test=[row(4, question_id=7)],
        )

class Given:
    def __init__(self, changes=None, databases=str(HERE), **lists):
        self.changes, self.databases, self.lists = changes, databases, lists

    def load(self, folder):
        lists = {name: [row(one, question_id=one) for one in numbers] for name, numbers in self.lists.items()}
        if self.changes is not None:
            lists["questions"] = [row(one) for one in range(3)] + [row(3, **self.changes)]
        return LoadedQuestions(databases=self.databases, **lists)

class Numbers:
    def load(self, folder):
        return LoadedQuestions(databases=HERE, questions=[row(1), 5])

class Text:
    def load(self, folder):
        return LoadedQuestions(databases=HERE, questions="SELECT 1")

class NotLoaded:
    def load(self, folder):
        return [row(1)]

class Raises:
    def load(self, folder):
        return folder["x"]

class Leaves:
    def load(self, folder):
        raise SystemExit("no licence")

class Says:
    def load(self, folder):
        raise UserError("The list is not there: fetch it.")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "their_source.py").write_text(MODULE)
    make_database(tmp_path, "d")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("their_source", None)


def configured(folder: Path, name: str, *overrides: str):
    return load_config(None, [f"data.source=their_source:{name}", f"run.home={folder}/home", *overrides])


def test_one_list_is_split_by_floe_and_the_source_has_a_folder(folder):
    config = configured(folder, "Rows", "data.held_out_share=0.2")
    assert check_plugins(config) == [f"data.source their_source:Rows from {folder}/their_source.py"]
    sets = sets_of_run(config)
    assert (len(sets.train), len(sets.tune), len(sets.test)) == (18, 6, 6)
    assert sets == sets_of_run(config)
    assert sets.databases_dir == folder
    assert (folder / "home" / "sources" / "their_source.Rows" / "seen").read_text() == "kept"
    assert len(sets_of_run(configured(folder, "Rows", "data.arguments.number=10")).train) == 8


def test_splits_of_its_own_stay_and_every_form_of_a_question_is_read(folder):
    sets = sets_of_run(configured(folder, "Splits"))
    first, second = sets.train
    assert (first.question_id, first.text, first.evidence, first.gold_sql) == ("0", "What is 1?", "of 1", ("SELECT 1",))
    assert (second.question_id, second.gold_sql) == ("1", ("SELECT 2", "SELECT 2.0"))
    assert [one.question_id for one in (*sets.tune, *sets.test)] == ["q", "7"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{db_id: null}", "entry 3 of questions has no db_id"),
        ("{db_id: ../d}", "entry 3 of questions has the db_id '../d'"),
        ("{db_id: missing}", "the first is 'missing'"),
        ("{question: ' '}", "entry 3 of questions has no question"),
        ("{query: 5}", "entry 3 of questions has no gold query"),
        ("{query: []}", "entry 3 of questions has no gold query"),
        ("{question_id: '0'}", "entry 3 of questions has the question_id '0' of another"),
    ],
)
def test_what_is_no_question_is_refused_by_its_place(folder, changes, said):
    config = configured(folder, "Given", f"data.arguments={{changes: {changes}}}")
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as refused:
        sets_of_run(config)
    assert said in str(refused.value) and "their_source:Given" in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{}", "gives no question"),
        ("{train: [1], tune: [2]}", "gives train, tune: give questions alone, or train, tune and test"),
        ("{questions: [1], train: [2]}", "gives questions, train"),
        ("{train: [1], tune: [2], test: [1]}", "'1' is both in train and in test"),
        ("{questions: [1], databases: /not/there}", "'/not/there' as its databases"),
    ],
)
def test_lists_and_folders_that_make_no_sets_are_refused(folder, arguments, said):
    with pytest.raises(UserError, match=r"^data.source is 'their_source:Given', [^\n]+\.$") as refused:
        sets_of_run(configured(folder, "Given", f"data.arguments={arguments}"))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Numbers", "entry 1 of questions is a int: give a mapping"),
        ("Text", "whose questions is a str: give a list"),
        ("NotLoaded", "returned a list: return floe.plugins.LoadedQuestions"),
        ("Raises", "raised TypeError"),
        ("Leaves", "whose load(...) raised SystemExit (no licence)"),
        ("Says", "The list is not there: fetch it."),
    ],
)
def test_what_load_does_wrong_is_said_in_one_sentence(folder, name, said):
    with pytest.raises(UserError, match=r"^[^\n]+\.$") as refused:
        sets_of_run(configured(folder, name))
    assert said in str(refused.value)


def test_a_source_without_load_is_refused_before_anything_starts(folder):
    with pytest.raises(ConfigError, match="it has no load"):
        check_plugins(configured(folder, "Asked", "data.arguments={db_id: d, question: x, gold_sql: y}"))
