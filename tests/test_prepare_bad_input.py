"""`floe prepare` over the files that people really have: odd names, logs, damaged files, folders of another kind."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from floe.actors.databases.connections import reading
from floe.actors.prompting.description_check import description_faults
from floe.actors.questions.prepared_folder import read_prepared
from floe.cluster.messages import Question
from floe.cluster.operations.prepare import PrepareOptions, prepare
from floe.cluster.preparation.gold_check_log import VerdictLog
from floe.cluster.preparation.sources import file_sources
from floe.configs.errors import UserError
from floe.configs.schema import RewardSection
from tests.small_archives import archive_sources, bird_folder, make_database, record, spider_folder, write_json

GOLD = "SELECT name FROM pet"


def run(tmp_path: Path, records: list[dict]) -> Path:
    questions = write_json(tmp_path / "questions.json", records)
    options = PrepareOptions(reward=RewardSection(time_limit_s=1, num_workers=1))
    return prepare(tmp_path / "out", file_sources(questions, tmp_path / "databases"), options)


def kept(folder: Path) -> list[Question]:
    return [one for questions in read_prepared(folder).splits.values() for one in questions]


def dropped(folder: Path) -> dict[str, dict]:
    return {one["db_id"]: one for one in map(json.loads, (folder / "dropped.jsonl").read_text().splitlines())}


@pytest.mark.heavy
def test_files_of_odd_names_are_opened_and_none_is_made(tmp_path):
    files = {
        "a%20b": "a%20b.db", "c?d": "c?d.sqlite3", "e#f": "e#f.sqlite", "it's": "it's/it's.db", "Ünï": "Ünï.db",
        "case": "Case/CASE.SQLITE", "alone": "alone/data.db",
    }  # fmt: skip
    for name in files.values():
        make_database(tmp_path / "databases" / name)
    before = sorted((tmp_path / "databases").rglob("*"))
    folder = run(tmp_path, [record(name, f"Names of {name}?", GOLD) for name in files])
    assert {one.database_id for one in kept(folder)} == files.keys()
    assert sorted((tmp_path / "databases").rglob("*")) == before


def test_a_path_with_signs_of_a_url_opens_the_file_that_it_names(tmp_path):
    make_database(tmp_path / "a b.db")
    odd = make_database(tmp_path / "a%20b.db", ["CREATE TABLE here (x)"])
    with reading(odd) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM here").scalar() == 0


@pytest.mark.heavy
def test_rows_in_a_write_ahead_log_count(tmp_path):
    path = make_database(tmp_path / "origin.db")
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("INSERT INTO pet VALUES (9, 'Zed', 1)")
    writer.commit()
    copy = tmp_path / "databases" / "zoo" / "other.db"
    copy.parent.mkdir(parents=True)
    for ending in ("", "-wal"):  # while the writer is open, so that its log is not taken up
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    writer.close()
    folder = run(tmp_path, [record("zoo", "Zed?", "SELECT name FROM pet WHERE name = 'Zed'")])
    assert [one.text for one in kept(folder)] == ["Zed?"]


def test_files_that_are_no_database_say_what_they_are(tmp_path):
    home = tmp_path / "databases"
    make_database(home / "good.db")
    contents = {
        "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "nothing": (b"", "is empty"),
        "page": (b"<html>not found</html>", "is no SQLite file"),
        "torn": (b"SQLite format 3\0" + b"\xff" * 5000, "Can't read the schema"),
    }
    for name, (content, _) in contents.items():
        (home / f"{name}.db").write_bytes(content)
    folder = run(tmp_path, [record(name, f"Names of {name}?", GOLD) for name in ("good", *contents)])
    found = dropped(folder)
    assert found.keys() == contents.keys()
    for name, (_, words) in contents.items():
        assert found[name]["reason"] == "database_missing" and words in found[name]["detail"]
        assert f"{name}.db" in found[name]["detail"]


@pytest.mark.heavy
def test_half_a_surrogate_pair_survives_the_folder(tmp_path):
    make_database(tmp_path / "databases" / "zoo.db")
    (tmp_path / "questions.json").write_text(json.dumps([record("zoo", "Who is \ud800?", GOLD)]))
    options = PrepareOptions(reward=RewardSection(num_workers=1))
    sources = file_sources(tmp_path / "questions.json", tmp_path / "databases")
    assert [one.text for one in kept(prepare(tmp_path / "out", sources, options))] == ["Who is \ud800?"]


@pytest.mark.heavy
def test_a_bad_one_of_several_golds_is_left_out_and_said(tmp_path, capsys):
    make_database(tmp_path / "databases" / "zoo.db")
    both = {"db_id": "zoo", "question": "Names?", "SQL": ["SELECT nothing FROM pet", GOLD]}
    assert [one.gold_sql for one in kept(run(tmp_path, [both]))] == [(GOLD,)]
    assert "one of its golds is left out (gold_fails" in capsys.readouterr().out


def test_no_database_at_all_is_refused(tmp_path):
    (tmp_path / "databases").mkdir()
    with pytest.raises(UserError, match=r"No question has a database.*zoo"):
        run(tmp_path, [record("zoo", "Names?", GOLD)])


def test_a_damaged_log_is_refused_by_its_line_and_a_cut_off_one_goes_on(tmp_path):
    make_database(tmp_path / "databases" / "zoo.db")
    folder = run(tmp_path, [record("zoo", "Names?", GOLD)])
    log = folder / "verdicts.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"key": "cut o')
    run(tmp_path, [record("zoo", "Names?", GOLD)])
    assert log.read_bytes() == whole
    log.write_bytes(b"garbage\n" + whole)
    with pytest.raises(UserError, match=r"Line 1 of .*verdicts\.jsonl"):
        run(tmp_path, [record("zoo", "Names?", GOLD)])


def test_a_second_preparation_of_a_folder_at_work_is_refused(tmp_path):
    make_database(tmp_path / "databases" / "zoo.db")
    (tmp_path / "out").mkdir()
    with VerdictLog(tmp_path / "out" / "verdicts.jsonl"), pytest.raises(UserError, match="Another floe prepare"):
        run(tmp_path, [record("zoo", "Names?", GOLD)])


@pytest.mark.heavy
def test_other_inputs_make_the_folder_again_and_say_so(tmp_path, capsys):
    make_database(tmp_path / "databases" / "zoo.db")
    folder = run(tmp_path, [record("zoo", "Names?", GOLD)])
    (folder / "pass_rates.json").write_text('{"questions-0": {"num_samples": 1, "num_correct": 1}}\n')
    run(tmp_path, [record("zoo", "Ages?", "SELECT age FROM pet")])
    assert [one.text for one in kept(folder)] == ["Ages?"]
    said = capsys.readouterr().err
    assert "made with other sources" in said and "pass_rates.json is of other questions" in said
    assert not (folder / "pass_rates.json").exists()
    (folder / "manifest.json").write_text("{")
    run(tmp_path, [record("zoo", "Ages?", "SELECT age FROM pet")])
    assert json.loads((folder / "manifest.json").read_text())["counts"]["kept"]["train"] == 1


def test_the_other_benchmarks_archive_is_refused(tmp_path):
    good = record("zoo", "Names?", GOLD)
    spider = spider_folder(tmp_path / "spider", [good], [good], ["zoo"])
    bird = bird_folder(tmp_path / "bird", [good], ["zoo"])
    with pytest.raises(UserError, match="is in that of spider: use floe prepare spider"):
        archive_sources(spider, "bird")
    with pytest.raises(UserError, match="is in that of bird: use floe prepare bird"):
        archive_sources(bird, "spider")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"original_column_name,column_name\nage,age\n", "row 1: there is no column column_description"),
        (b"\xef\xbb\xbforiginal_column_name,column_name,column_description,data_format,value_description\n"
         b"a,\"two\nlines\",,,\nb,\x96,,,\n", "row 3: byte 0x96"),
        (b"original_column_name,column_name,column_description,data_format,value_description\na,b,c,d,e,more\n",
         "row 2: 6 cells, the header has 5"),
        (b'original_column_name,column_name,column_description,data_format,value_description\n"' + b"x" * 200_000,
         "row 2: a quote that is never closed"),
        (b'original_column_name,column_name,column_description,data_format,value_description\nid,,"open,int,\nage,,x,,\n',
         "row 2: a quote that is never closed"),
        (b"", "row 1: the file is empty"),
        ("original_column_name;column_name\nid;x\n".encode("utf-16"), "row 1: there is no column column_description"),
    ],
)  # fmt: skip
def test_a_fault_of_a_description_names_file_and_row(tmp_path, content, words):
    (tmp_path / "pet.csv").write_bytes(content)
    assert any("pet.csv" in line and words in line for line in description_faults(tmp_path, ["Pet"]))


def test_a_description_with_a_mark_and_a_broken_byte_has_that_one_fault(tmp_path):
    header = "original_column_name,column_name,column_description,data_format,value_description\n"
    (tmp_path / "pet.csv").write_bytes(b"\xef\xbb\xbf" + header.encode() + b"age,\x96,,,\n")
    (fault,) = description_faults(tmp_path, ["pet"])
    assert fault.endswith("row 2: byte 0x96 is no UTF-8")


def test_a_sound_description_has_no_fault_and_one_of_no_table_is_named(tmp_path):
    source = bird_folder(tmp_path / "bird", [record("zoo", "Names?", GOLD)], ["zoo"])
    folder = source / "dev_databases" / "zoo" / "database_description"
    assert description_faults(folder, ["pet"]) == []
    assert "the database has no table of this name" in description_faults(folder, ["cage"])[0]


def test_a_file_without_a_known_column_is_answered_with_its_columns_and_the_names_to_give(tmp_path):
    make_database(tmp_path / "databases" / "zoo.sqlite")
    with pytest.raises(UserError) as said:
        run(tmp_path, [{"base": "zoo", "frage": "Names?", "abfrage": GOLD}])
    assert "its fields are base, frage, abfrage" in str(said.value)
    assert "--fields question=FIELD,sql=FIELD; the names are question_id, database (or db_id), question, " in str(
        said.value
    )


def test_a_database_of_all_three_splits_counts_once(tmp_path, capsys):
    make_database(tmp_path / "databases" / "zoo.sqlite")
    records = [record("zoo", f"Older than {n}?", f"SELECT name FROM pet WHERE age > {n}") for n in (1, 2, 3)]
    run(tmp_path, records)
    row = next(line for line in capsys.readouterr().out.splitlines() if "databases of these" in line)
    assert row.split()[-4:] == ["1", "1", "1", "1"]
