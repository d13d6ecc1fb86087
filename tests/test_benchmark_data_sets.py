"""The questions of a benchmark: prepared folders, layouts, single files, and what can't be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from floe.actors.questions.prepared_folder import MANIFEST_FILE, write_splits
from floe.cluster.benchmark_table.data_sets import DataSet, data_set
from floe.cluster.benchmark_table.rows import config_of
from floe.cluster.benchmark_table.table_file import Benchmark
from floe.cluster.messages import Question
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from tests.small_archives import bird_folder, make_database, record, spider_folder, write_json

ASKED = [record("pets", f"Which {i}?", "SELECT name FROM pet") for i in range(5)]


def found(**fields: object) -> DataSet:
    return data_set(Benchmark.model_validate({"name": "set"} | fields))


def texts(of: DataSet) -> list[str]:
    return [one.text for one in of.questions]


@pytest.fixture
def spider(tmp_path) -> Path:
    return spider_folder(tmp_path / "spider", [record("pets", "Train?", "SELECT 1")], ASKED, ["pets"])


def test_the_dev_questions_of_an_archive_are_asked_unless_another_split_is_named(spider):
    assert texts(found(data=str(spider))) == [f"Which {i}?" for i in range(5)]
    assert texts(found(data=str(spider), split="train")) == ["Train?"]
    assert [one.question_id for one in found(data=str(spider), limit=2).questions] == ["0", "1"]
    with pytest.raises(UserError, match="has no part 'test': choose one of dev"):
        found(data=str(spider), split="test")


def test_a_set_derived_from_spider_takes_given_databases(spider, tmp_path):
    write_json(tmp_path / "syn" / "dev.json", ASKED[:3])
    derived = found(data=str(tmp_path / "syn"), databases=str(spider / "database"))
    assert (len(derived.questions), derived.databases_dir) == (3, spider / "database")


def test_questions_without_a_database_are_left_out_before_the_limit_and_counted(tmp_path):
    folder = bird_folder(tmp_path / "bird", [record("gone", "Lost?", "SELECT 1"), *ASKED], ["pets"])
    part = found(data=str(folder), limit=2)
    assert texts(part) == ["Which 0?", "Which 1?"]
    assert part.notes == ("1 of 6 questions left out: 1 databases are missing",)


def test_a_prepared_folder_has_its_splits_and_its_clock(tmp_path):
    folder = tmp_path / "prepared"
    make_database(folder / "databases" / "pets" / "pets.sqlite")
    kept = [Question(question_id="q", database_id="pets", text="Which?", gold_sql=("SELECT 1",))]
    write_splits(folder, {"test": kept})
    (folder / MANIFEST_FILE).write_text(json.dumps({"clock": "2025-01-15 00:00:00"}))
    prepared = found(data=str(folder))
    assert (prepared.questions, prepared.clock) == (tuple(kept), "2025-01-15 00:00:00")
    with pytest.raises(UserError, match="has no question in a split 'tune': choose one of test"):
        found(data=str(folder), split="tune")


def defog_file(tmp_path: Path) -> Path:
    make_database(tmp_path / "defog" / "databases" / "pets" / "pets.sqlite")
    path = tmp_path / "defog" / "a.csv"
    path.write_text('db_name,query,question,instructions\npets,"SELECT 1; SELECT 2",Which?,Count.\n')
    (tmp_path / "defog" / "b.csv").write_text("db_name,query,question,instructions\npets,SELECT 3,What?,\n")
    return path


def test_a_single_file_is_read_as_the_layout_of_its_folder_reads_it(tmp_path):
    path = defog_file(tmp_path)
    single = found(questions=str(path), databases=str(path.parent / "databases"))
    assert [(one.text, one.gold_sql, one.evidence) for one in single.questions] == [
        ("Which?", ("SELECT 1", "SELECT 2"), "Count.")
    ]
    assert sorted(texts(found(data=str(path.parent)))) == ["What?", "Which?"]


def test_a_broken_file_beside_it_makes_the_layout_doubtful_until_it_is_named(tmp_path):
    path = defog_file(tmp_path)
    (path.parent / "b.csv").write_text('db_name,query\npets,"SELECT "1""\n')
    fields = {"questions": str(path), "databases": str(path.parent / "databases")}
    with pytest.raises(UserError, match=r"b\.csv.*is not CSV.*; or name the layout of a\.csv with 'layout'\."):
        found(**fields)
    assert found(**fields, layout="defog").questions[0].gold_sql == ("SELECT 1", "SELECT 2")


def test_a_file_in_no_layout_is_read_as_ones_own(tmp_path, spider):
    path = write_json(tmp_path / "mine" / "questions.json", ASKED[:2])
    assert len(found(questions=str(path), databases=str(spider / "database")).questions) == 2


def test_records_that_are_no_questions_are_left_out_and_counted(tmp_path, spider):
    path = write_json(tmp_path / "mine" / "questions.json", [*ASKED[:2], {"db_id": "pets", "question": "No gold?"}])
    part = found(questions=str(path), databases=str(spider / "database"))
    assert len(part.questions) == 2 and "1 records are no questions" in part.notes[0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"data": "{t}/none"}, "There is no data folder"),
        ({"data": "{t}/empty"}, "is in no layout that floe knows"),
        ({"questions": "{t}/none.json", "databases": "{t}"}, "There is no questions file"),
        ({"questions": "{t}/spider/dev.json", "databases": "{t}/none"}, "There is no databases folder"),
        ({"questions": "{t}/spider/dev.json", "databases": "{t}/empty"}, "No question of .* has its database in"),
    ],
)
def test_a_missing_or_broken_data_set_has_a_sentence(tmp_path, spider, fields, sentence):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=sentence):
        found(**{name: value.replace("{t}", str(tmp_path)) for name, value in fields.items()})


def test_semantics_suite_clock_and_prompt_of_a_data_set_replace_the_configurations(tmp_path):
    config = load_config(None, ["reward.semantics=spider", f"reward.suite={tmp_path}"])
    fields = {"name": "a", "data": "b", "semantics": "bird", "clock": "2025-01-15", "prompt": {"evidence": False}}
    changed = config_of(config, Benchmark.model_validate(fields))
    assert (changed.reward.semantics, changed.reward.suite, changed.reward.clock) == (
        "bird",
        None,
        "2025-01-15 00:00:00",
    )
    assert changed.prompt.evidence is False and config.prompt.evidence is True
    assert config_of(config, Benchmark(name="a", data=tmp_path)) == config


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"suite": "/s"}, "The benchmark 'a' can't be judged so: reward.suite"),
        ({"prompt": {"example_values": 3}}, "shows nothing but names"),
        ({"clock": "yesterday"}, "reward.clock"),
    ],
)
def test_what_the_schema_refuses_is_refused_for_a_data_set_too(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config_of(load_config(None), Benchmark.model_validate({"name": "a", "data": "b"} | fields))


def test_sets_with_spiders_file_names_are_read_as_what_they_are(tmp_path):
    asked = record("eicu", "How many?", "SELECT count(*) FROM pet", is_impossible=False)
    write_json(tmp_path / "ehr" / "dev.json", [asked, record("eicu", "Rain?", "null", is_impossible=True)])
    write_json(tmp_path / "ehr" / "tables.json", [])
    make_database(tmp_path / "ehr" / "database" / "eicu" / "eicu.sqlite")
    ehrsql = found(data=str(tmp_path / "ehr"))
    assert (
        texts(ehrsql) == ["How many?"]
        and "1 of 2 records of" in ehrsql.notes[0]
        and "(is_impossible)" in ehrsql.notes[0]
    )
    write_json(tmp_path / "dk" / "Spider-DK.json", ASKED[:2])
    write_json(tmp_path / "dk" / "tables.json", [])
    make_database(tmp_path / "dk" / "database" / "pets" / "pets.sqlite")
    assert texts(found(data=str(tmp_path / "dk"))) == ["Which 0?", "Which 1?"]
