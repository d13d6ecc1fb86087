"""The benchmarks that `floe evaluate --data` and `floe prepare` read: each release's files, databases and questions."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from floe.actors.layouts.answers_by_id import PRESENT, runnable
from floe.actors.layouts.registry import LAYOUTS, evaluation_set, find_files
from floe.cluster.evaluation.asked_questions import Asked, Benchmark, asked_of_archive
from floe.cluster.models.model_folder import model_folder
from floe.cluster.preparation.sources import layout_sources, questions_of, with_own_ids
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY
from tests.small_archives import make_database

SHARED = REPOSITORY.parent / "shared" / "data"
SPIDER = {"db_id": "pets", "question": "How many pets?", "query": "SELECT count(*) FROM pet", "sql": {}}
DK = {"type": 2, "db_id": "new_pets", "question": "Who is the youngest?", "query": "SELECT name FROM pet"}
SYN = {"db_id": "pets", "SpiderQuestion": "How many pets?", "SpiderSynQuestion": "How many animals?",
       "query": "SELECT count(*) FROM pet"}  # fmt: skip
BIRD = {"question_id": 0, "db_id": "pets", "question": "How many?", "SQL": "SELECT count(*) FROM pet", "evidence": ""}
EHR = {"id": "a1", "db_id": "eicu", "question": "How many patients?", "query": "select count(*) from pet",
       "is_impossible": False, "t_tag": []}  # fmt: skip
EHR_OPEN = {"id": "a2", "db_id": "eicu", "question": "What is the weather?", "query": "null", "is_impossible": True}
SCIENCE = {"db_id": "oncomx", "question": "How many genes?", "query": "SELECT count(*) FROM pet"}


def put(folder: Path, files: dict[str, Any]) -> Path:
    """Write JSON files; a name that ends in `.sqlite` is made a database, None makes a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".sqlite"):
            make_database(path)
        elif content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_text(json.dumps(content))
    return folder


# By name: a release's files; the folder and part that are given; the layout, part, files and databases that are found.
FORMS: dict[str, tuple[dict[str, Any], tuple[str, str | None], tuple[str, str, list[str], str]]] = {
    "bird dev": (
        {"dev_20240627/dev.json": [BIRD], "dev_20240627/dev_tables.json": [], "dev_20240627/dev_databases": None},
        ("", None), ("bird", "dev", ["dev_20240627/dev.json"], "dev_20240627/dev_databases"),
    ),
    "bird mini-dev": (
        {"minidev/MINIDEV/mini_dev_sqlite.json": [BIRD], "minidev/MINIDEV/dev_databases": None},
        ("", None), ("bird", "mini_dev", ["minidev/MINIDEV/mini_dev_sqlite.json"], "minidev/MINIDEV/dev_databases"),
    ),
    "spider dev": (
        {"train_spider.json": [SPIDER], "dev.json": [SPIDER], "tables.json": [], "database": None,
         "test_data/dev.json": [SPIDER], "test_data/tables.json": [], "test_database": None},
        ("", None), ("spider", "dev", ["dev.json"], "database"),
    ),
    "spider test": (
        {"train_spider.json": [SPIDER], "dev.json": [SPIDER], "tables.json": [], "database": None,
         "test.json": [SPIDER], "test_tables.json": [], "test_database": None},
        ("", "test"), ("spider", "test", ["test.json"], "test_database"),
    ),
    "spider test under the dev file's name": (
        {"train_spider.json": [SPIDER], "dev.json": [SPIDER], "tables.json": [], "database": None,
         "test_data/dev.json": [SPIDER], "test_data/tables.json": [], "test_database": None},
        ("", "test"), ("spider", "test", ["test_data/dev.json"], "test_database"),
    ),
    "spider's folder test_data": (
        {"dev.json": [SPIDER], "tables.json": [], "database": None,
         "test_data/dev.json": [SPIDER], "test_data/tables.json": [], "test_database": None},
        ("test_data", None), ("spider", "test", ["test_data/dev.json"], "test_database"),
    ),
    "spider test alone": (
        {"test.json": [SPIDER], "test_tables.json": [], "test_database": None},
        ("", None), ("spider", "test", ["test.json"], "test_database"),
    ),
    "spider-dk": (
        {"Spider-DK.json": [DK], "tables.json": [], "database": None},
        ("", None), ("spider-dk", "dev", ["Spider-DK.json"], "database"),
    ),
    "spider-realistic": (
        {"spider-realistic/spider-realistic.json": [SPIDER], "spider/database": None},
        ("spider-realistic", None),
        ("spider-realistic", "dev", ["spider-realistic/spider-realistic.json"], "spider/database"),
    ),
    "spider-syn": (
        {"Spider-Syn/Spider-Syn/dev.json": [SYN], "Spider-Syn/Spider-Syn/train_spider.json": [SYN],
         "Spider-Syn/preprocessed_dataset/tables.json": [], "spider/database": None},
        ("Spider-Syn", None), ("spider", "dev", ["Spider-Syn/Spider-Syn/dev.json"], "spider/database"),
    ),
    "ehrsql": (
        {"dataset/ehrsql/eicu/valid.json": [EHR], "dataset/ehrsql/eicu/test.json": [EHR],
         "dataset/ehrsql/eicu/eicu.sqlite": "", "dataset/ehrsql/mimic_iii/valid.json": [EHR | {"id": "b1"}],
         "dataset/ehrsql/mimic_iii/mimic_iii.sqlite": "", "dataset/ehrsql/tables.json": []},
        ("", None),
        ("ehrsql", "valid", ["dataset/ehrsql/eicu/valid.json", "dataset/ehrsql/mimic_iii/valid.json"],
         "dataset/ehrsql"),
    ),
    "ehrsql test": (
        {"eicu/valid.json": [EHR], "eicu/test.json": [EHR], "eicu/eicu.sqlite": ""},
        ("", "test"), ("ehrsql", "test", ["eicu/test.json"], "."),
    ),
    "ehrsql in one file": (
        {"dev.json": [EHR], "tables.json": [], "database": None},
        ("", None), ("ehrsql", "dev", ["dev.json"], "database"),
    ),
    "sciencebenchmark in one file": (
        {"dev.json": [SCIENCE], "tables.json": [], "databases": None},
        ("", None), ("sciencebenchmark", "dev", ["dev.json"], "databases"),
    ),
    "sciencebenchmark by subject": (
        {"cordis/dev.json": [SCIENCE | {"db_id": "cordis_temporary"}], "cordis/seed.json": [SCIENCE],
         "oncomx/dev.json": [SCIENCE], "sdss/dev.json": [SCIENCE | {"db_id": "skyserver_dr16_2020_11_30"}],
         "databases": None},
        ("", None),
        ("sciencebenchmark", "dev", ["cordis/dev.json", "oncomx/dev.json", "sdss/dev.json"], "databases"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_release_is_told_by_its_files(tmp_path, name):
    files, (folder, part), (layout, found_part, questions, databases) = FORMS[name]
    put(tmp_path, files)
    found = evaluation_set(tmp_path / folder, part)
    assert (found.layout.name, found.part) == (layout, found_part)
    assert [str(path.relative_to(tmp_path)) for path in found.questions] == questions
    assert found.databases_dir == (tmp_path / databases).resolve()
    # floe prepare takes the same layout, and its test split is the part that is asked by default.
    prepared, test_files = find_files(tmp_path / folder, None, None)
    assert prepared is found.layout
    if part is None:
        assert tuple(one.questions for one in test_files if one.split == "test") == found.questions


@pytest.mark.parametrize(
    ("files", "part", "words"),
    [
        ({"dev.json": [SPIDER], "tables.json": [], "database": None}, "test", "no part 'test': choose one of dev"),
        ({"train_spider.json": [SPIDER], "database": None}, None, "only training questions"),
        ({"manifest.json": {}, "verdicts.jsonl": "", "test.json": [BIRD]}, None, "was written by floe prepare"),
        ({"dev.json": [BIRD], "dev_databases.zip": ""}, None, "unpack dev_databases.zip, or name their folder"),
        ({"dev_tables.json": [], "dev_databases": None}, None, "holds no questions in the layout of bird"),
        ({"test.json": [SPIDER], "test_tables.json": []}, None, r"no databases folder \(test_database or"),
        ({"Spider-DK.json": [DK], "tables.json": []}, None, r"no databases folder \(database or"),
        ({"eicu/valid.json": [EHR]}, None, "eicu has questions but no databases folder"),
        ({"oncomx/dev.json": [SCIENCE], "oncomx/restore.sql": ""}, None, "oncomx/restore.sql is a dump of PostgreSQL"),
        ({f"data/{name}/questions_post_perturbation.json": [SPIDER] for name in ("DB_a", "NLQ_b")}, None,
         "several sets with databases of their own: give --data one of .*DB_a, .*NLQ_b"),
    ],
)  # fmt: skip
def test_a_wrong_or_partial_download_is_refused_in_a_sentence(tmp_path, files, part, words):
    put(tmp_path / "set", files)
    with pytest.raises(UserError, match=words):
        evaluation_set(tmp_path / "set", part)


def test_databases_may_lie_elsewhere(tmp_path):
    put(tmp_path, {"set/spider-realistic.json": [SPIDER], "elsewhere": None})
    assert evaluation_set(tmp_path / "set", None, tmp_path / "elsewhere").databases_dir == tmp_path / "elsewhere"
    with pytest.raises(UserError, match="no databases folder"):
        evaluation_set(tmp_path / "set", None, tmp_path / "nowhere")


def test_next_to_spiders_own_files_a_derived_set_is_not_taken_for_the_folders(tmp_path):
    put(tmp_path, {"dev.json": [SPIDER], "Spider-DK.json": [DK], "tables.json": [], "database": None})
    assert evaluation_set(tmp_path).layout.name == "spider"


def test_golds_of_ehrsql_run_with_its_present_time_and_normal_ranges():
    gold = (
        "select count(*) from v where v.t < = datetime(current_time,'-1 day') and "
        "v.x between heart_rate_lower and heart_rate_upper and v.note = 'at current_time < =' and v.sao2_lower2 is null"
    )
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE v (t TEXT, x REAL, note TEXT, sao2_lower2 TEXT)")
    for row in ("2105-12-30 23:59:00", 100, "at current_time < =", None), ("2105-12-31 00:00:00", 80, "", None):
        connection.execute("INSERT INTO v VALUES (?, ?, ?, ?)", row)
    assert connection.execute(runnable(gold, PRESENT)).fetchone() == (1,)
    assert "datetime(current_time," in runnable(gold, None)  # in the form of 2024 SQLite's own word is meant


def test_files_of_one_name_give_ids_of_their_own(tmp_path):
    put(tmp_path, FORMS["sciencebenchmark by subject"][0])
    sources, _ = layout_sources(tmp_path, None, None, {})
    found = with_own_ids([(one, questions_of(one)) for one in sources])
    ids = [question.question_id for _, read in found for question in read.questions]
    assert ids == ["cordis-seed-0", "cordis-dev-0", "oncomx-dev-0", "sdss-dev-0"]


@pytest.fixture(scope="module")
def asked(home):
    settings = load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}"])
    model_dir = model_folder(settings, home / "demo")

    class Notes(list[str]):
        note = list.append

    def ask(folder: Path, *overrides: str, part: str | None = None) -> tuple[Asked, list[str]]:
        config = load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}", *overrides])
        notes = Notes()
        return asked_of_archive(config, model_dir, notes, Benchmark(folder=folder, part=part)), notes

    return ask


def test_an_evaluation_says_what_it_asks_and_what_it_leaves_out(tmp_path, asked):
    put(tmp_path, {"dev.json": [EHR, EHR_OPEN, EHR | {"id": "a3", "db_id": "mimic_iii"}],
                   "database/eicu/eicu.sqlite": ""})  # fmt: skip
    found, notes = asked(tmp_path, "reward.semantics=strict")
    assert [one.question_id for one in found.questions] == ["a1"]
    said = "\n".join(notes)
    assert f"1 of 3 records of {tmp_path / 'dev.json'} are left out, the first: record 1" in said
    assert "can't be answered" in said and "databases are missing: mimic_iii" in said
    assert f"1 questions of {tmp_path / 'dev.json'}, databases {tmp_path / 'database'}" in said
    assert "layout ehrsql, part dev" in said
    assert "compares as reward.semantics=bird does; this one as strict" in said and f"stands at {PRESENT}" in said


def test_the_question_of_spider_syn_is_the_one_with_synonyms(tmp_path, asked):
    put(tmp_path, FORMS["spider-syn"][0] | {"spider/database/pets/pets.sqlite": ""})
    found, notes = asked(tmp_path / "Spider-Syn", "reward.semantics=spider", f"reward.suite={tmp_path}")
    assert [one.text for one in found.questions] == ["How many animals?"]
    assert found.in_file == (("0", "pets"),) and not found.is_bird
    assert not any("test-suite" in one or "compares as" in one for one in notes)
    _, notes = asked(tmp_path / "Spider-Syn", "reward.semantics=spider")
    assert any("set reward.suite" in one for one in notes)


def test_several_files_are_one_evaluation(tmp_path, asked):
    put(tmp_path, FORMS["ehrsql"][0])
    (tmp_path / "dataset/ehrsql/mimic_iii/valid.json").write_text(
        json.dumps([EHR | {"id": "b1", "db_id": "mimic_iii"}])
    )
    found, _ = asked(tmp_path)
    assert [(one.question_id, one.database_id) for one in found.questions] == [("a1", "eicu"), ("b1", "mimic_iii")]
    assert [one for one, _ in found.in_file] == ["a1", "b1"]


@pytest.mark.parametrize(
    ("folder", "layout", "part", "num_questions"),
    [("spider", "spider", "dev", 1034), ("spider_syn", "spider", "dev", 1034), ("bird", "bird", "dev", None),
     ("bird", "bird", "mini_dev", None)],
)  # fmt: skip
def test_the_sets_at_hand_are_read(folder, layout, part, num_questions):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{folder} is not in ../shared/data")
    found = evaluation_set(SHARED / folder, part)
    assert found.layout.name == layout and found.databases_dir.is_dir()
    read = [questions_of_file for path in found.questions for questions_of_file in found.layout.records(path)]
    assert read and num_questions in (None, len(read))


def test_layouts_have_names_of_their_own():
    assert len({one.name for one in LAYOUTS}) == len(LAYOUTS)
