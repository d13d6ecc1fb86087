"""`floe prepare`: what is dropped and why, splits that share nothing, and that a second or broken-off run is safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from floe.actors.layouts.archives import find_archive
from floe.actors.questions.prepared_folder import clock_of_prepared
from floe.cluster.operations.prepare import PrepareOptions, prepare
from floe.cluster.preparation.clock import with_clock
from floe.cluster.preparation.sources import file_sources
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RewardSection
from tests.command_line import REPOSITORY
from tests.small_archives import (
    SLOW_SQL,
    archive_sources,
    bird_folder,
    make_database,
    record,
    spider_folder,
    write_json,
)

REWARD = RewardSection(time_limit_s=0.5, num_workers=1)  # one interpreter to start; the command below has two
DATABASES = ("zoo", "farm", "home", "shop", "yard")


def good(database_id: str, number: int = 1) -> dict:
    return record(database_id, f"Who is older than {number} in the {database_id}?",
                  f"SELECT name FROM pet WHERE age > {number}")  # fmt: skip


def options(**changes) -> PrepareOptions:
    return PrepareOptions(**{"reward": REWARD} | changes)


def prepared(tmp_path: Path, records: list[dict], **changes) -> dict[str, dict]:
    """Question texts by where they went: the split, or `dropped` with reason."""
    for name in DATABASES:
        if not (tmp_path / "databases" / name).exists():
            make_database(tmp_path / "databases" / name / f"{name}.sqlite")
    questions = write_json(tmp_path / "questions.json", records)
    folder = prepare(tmp_path / "out", file_sources(questions, tmp_path / "databases"), options(**changes))
    return where_all_went(folder)


def where_all_went(folder: Path) -> dict[str, str]:
    went = {
        one["question"]: split
        for split in ("train", "tune", "test")
        for one in json.loads((folder / f"{split}.json").read_text())
    }
    for line in (folder / "dropped.jsonl").read_text().splitlines():
        one = json.loads(line)
        went[one["question_id"]] = one["reason"]
    return went


FAULTY = {
    "gold_fails": "SELECT nothing FROM pet",
    "gold_slow": SLOW_SQL,
    "empty_result": "SELECT name FROM pet WHERE age > 100",
    "degenerate": "SELECT max(age) FROM pet WHERE age > 100",
}


def test_golds_that_can_not_teach_are_dropped_with_their_reason(tmp_path):
    asked = {
        **{reason: (sql, reason) for reason, sql in FAULTY.items()},
        "chance": ("SELECT name FROM pet ORDER BY random()", "not_deterministic"),
        "zero": ("SELECT count(*) FROM pet WHERE age > 100", "degenerate"),
        "writes": ("DELETE FROM pet", "gold_fails"),
        "in quotes": ("SELECT name FROM pet WHERE name != 'random()'", None),
    }
    records = [good(name) | {"question_id": name} for name in DATABASES]
    records += [record("zoo", f"{name}?", sql, question_id=name) for name, (sql, _) in asked.items()]
    went = prepared(tmp_path, records)
    assert {name: went.get(name) for name in asked} == {name: reason for name, (_, reason) in asked.items()}
    assert sum(split in ("train", "tune", "test") for split in went.values()) == len(DATABASES) + 1


@pytest.mark.heavy
def test_questions_of_a_missing_database_and_repeated_ones_are_dropped(tmp_path):
    records = [good(name) for name in DATABASES]
    records += [
        record("moon", "Who?", "SELECT 1"),
        record("zoo", "  who is OLDER than 1 in the zoo? ", "SELECT name FROM pet"),
    ]
    reasons = Counter(prepared(tmp_path, [one | {"question_id": str(i)} for i, one in enumerate(records)]).values())
    assert (reasons["database_missing"], reasons["duplicate_question"]) == (1, 1)


def test_what_will_be_evaluated_is_not_trained_on(tmp_path):
    records = [good(name) for name in DATABASES]
    records += [
        record("zoo", "How many?", "SELECT count(*) FROM pet"),
        record("zoo", "All names?", "SELECT name FROM pet"),
    ]
    renamed = [record("other", "how many ?", "SELECT 7"), record("other", "Names!", "select  name from PET")]
    evaluation = write_json(tmp_path / "evaluation.json", renamed)
    went = prepared(
        tmp_path, [one | {"question_id": str(i)} for i, one in enumerate(records)], evaluation=(evaluation,)
    )
    assert (went["5"], went["6"]) == ("overlap_question", "overlap_gold")


@pytest.mark.heavy
def test_train_and_held_back_questions_share_no_database(tmp_path):
    records = [good(name, number) for name in DATABASES for number in range(1, 5)]
    folder = tmp_path / "out"
    prepared(tmp_path, records, held_out_share=0.2)
    databases = [
        {one["db_id"] for one in json.loads((folder / f"{split}.json").read_text())}
        for split in ("train", "tune", "test")
    ]
    assert all(databases) and sum(map(len, databases)) == len(DATABASES)


def test_of_a_single_database_golds_are_held_back(tmp_path):
    records = [good("zoo", number % 3) | {"question": f"Wording {number}"} for number in range(12)]
    records += [record("zoo", f"Other {number}", f"SELECT {number} FROM pet") for number in range(1, 9)]
    went = prepared(tmp_path, records, held_out_share=0.2)
    splits = {went[f"Wording {number}"]: {number % 3} for number in range(12)}
    for number in range(12):
        splits[went[f"Wording {number}"]].add(number % 3)
    assert sum(map(len, splits.values())) == 3  # every gold in one split


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.heavy
def test_a_second_preparation_changes_no_byte(tmp_path):
    records = [good(name) for name in DATABASES] + [record("zoo", "Why?", FAULTY["gold_fails"])]
    prepared(tmp_path, records)
    before = contents(tmp_path / "out")
    prepared(tmp_path, records)
    assert contents(tmp_path / "out") == before


def test_a_gold_that_asks_for_the_time_is_kept_at_the_clock_that_the_folder_keeps(tmp_path, monkeypatch):
    asks = record("zoo", "How old?", "SELECT name, date('now') FROM pet", question_id="clock")
    records = [good(name) | {"question_id": name} for name in DATABASES] + [asks]
    assert "clock" not in prepared(tmp_path, records)
    before = contents(tmp_path / "out")
    clock = clock_of_prepared(tmp_path / "out")
    monkeypatch.setattr("floe.cluster.preparation.clock.present_instant", lambda: "2099-01-01 00:00:00")
    prepared(tmp_path, records)
    assert contents(tmp_path / "out") == before
    of_folder = load_config(None, ["data.source=prepared", f"data.prepared={tmp_path / 'out'}"])
    assert with_clock(of_folder).reward.clock == clock
    gone = load_config(None, ["data.source=prepared", f"data.prepared={tmp_path / 'gone'}"])
    assert with_clock(of_folder, asks_others=True).reward.clock == clock
    assert with_clock(gone, asks_others=True).reward.clock == "2099-01-01 00:00:00"
    with pytest.raises(UserError, match="gone"):
        with_clock(gone)
    assert with_clock(load_config(None, [])).reward.clock == "2099-01-01 00:00:00"
    assert with_clock(load_config(None, ["reward.clock=2001-01-01"])).reward.clock == "2001-01-01 00:00:00"


def test_a_manifest_with_another_clock_than_an_instant_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"clock": "tomorrow"}')
    with pytest.raises(UserError, match=r"manifest\.json is 'tomorrow', which is not a point in time"):
        clock_of_prepared(tmp_path)


@pytest.mark.heavy
def test_a_folder_takes_another_clock_when_it_is_given_one(tmp_path):
    records = [good(name) for name in DATABASES]
    prepared(tmp_path, records)
    prepared(tmp_path, records, reward=REWARD.model_copy(update={"clock": "2001-01-01 00:00:00"}))
    assert clock_of_prepared(tmp_path / "out") == "2001-01-01 00:00:00"


@pytest.mark.heavy
def test_a_changed_database_is_checked_anew(tmp_path):
    records = [good(name) | {"question_id": name} for name in DATABASES] + [
        record("zoo", "Old?", "SELECT name FROM pet WHERE age > 90", question_id="old")
    ]
    assert prepared(tmp_path, records)["old"] == "empty_result"
    make_database(tmp_path / "new.sqlite", ["INSERT INTO pet VALUES (9, 'Methuselah', 969)"]).replace(
        tmp_path / "databases" / "zoo" / "zoo.sqlite"
    )
    assert "old" not in prepared(tmp_path, records)


@pytest.mark.heavy
def test_spiders_archive_becomes_splits_by_its_files(tmp_path):
    source = spider_folder(
        tmp_path / "spider", [good(name) for name in DATABASES[:4]], [good("yard")], databases=DATABASES
    )
    folder = prepare(tmp_path / "out", archive_sources(source, "spider"), options(held_out_share=0.25))
    went = where_all_went(folder)
    assert went["Who is older than 1 in the yard?"] == "test"
    assert Counter(went.values()) == {"train": 3, "tune": 1, "test": 1}
    ids = [one["question_id"] for one in json.loads((folder / "train.json").read_text())]
    assert all(name.startswith("train_spider-") for name in ids)


def test_birds_dev_archive_is_recognised_and_keeps_evidence_and_difficulty(tmp_path):
    hard = good("zoo") | {"evidence": "old means over 1", "difficulty": "challenging", "question_id": 7}
    source = bird_folder(tmp_path / "bird", [hard], ["zoo"])
    archive = find_archive(source)
    assert archive.layout == "bird" and archive.split("dev") is not None
    folder = prepare(tmp_path / "out", archive_sources(source, "bird"), options())
    (one,) = json.loads((folder / "test.json").read_text())
    assert (one["evidence"], one["difficulty"], str(one["question_id"])) == ("old means over 1", "challenging", "7")
    assert (folder / "databases" / "zoo" / "database_description" / "pet.csv").is_file()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        prepared(tmp_path, [good(name) for name in DATABASES])
    with pytest.raises(UserError, match="neither the layout"):
        find_archive(tmp_path / "out")


@pytest.mark.heavy
def test_a_byte_order_mark_and_latin_1_are_met_with_words(tmp_path):
    marked = write_json(tmp_path / "marked.json", [good(name) for name in DATABASES], encoding="utf-8-sig")
    for name in DATABASES:
        make_database(tmp_path / "databases" / name / f"{name}.sqlite")
    prepare(tmp_path / "out", file_sources(marked, tmp_path / "databases"), options())
    latin = tmp_path / "latin.json"
    latin.write_bytes('[{"db_id": "zoo", "question": "Café?", "query": "SELECT 1"}]'.encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.json is not UTF-8"):
        prepare(tmp_path / "other", file_sources(latin, tmp_path / "databases"), options())


@pytest.mark.heavy
def test_broken_text_in_a_database_is_named_with_its_table_and_row(tmp_path, capsys):
    broken = "INSERT INTO pet VALUES (9, CAST(x'416dff' AS TEXT), 4)"
    make_database(tmp_path / "databases" / "zoo" / "zoo.sqlite", [broken])
    prepared(tmp_path, [good(name) for name in DATABASES])
    printed = " ".join(capsys.readouterr().out.split())
    assert "zoo" in printed and "pet" in printed and "row 4" in printed


def test_a_description_without_a_column_is_named(tmp_path, capsys):
    source = bird_folder(tmp_path / "bird", [good("zoo")], ["zoo"])
    faulty = source / "dev_databases" / "zoo" / "database_description" / "pet.csv"
    faulty.write_text("original_column_name,column_name\nage,age\n")
    prepare(tmp_path / "out", archive_sources(source, "bird"), options())
    printed = " ".join(capsys.readouterr().out.split())
    assert "pet.csv" in printed and "column_description" in printed


def command(tmp_path: Path, out: str) -> list[str]:
    return [
        sys.executable, "-m", "floe.cluster.cli", "prepare", "jsonl", str(tmp_path / "questions.json"),
        str(tmp_path / "databases"), str(tmp_path / out), "--time-limit", "0.5", "--json",
    ]  # fmt: skip


@pytest.mark.heavy
def test_a_preparation_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    records = [good(name, number) for name in DATABASES for number in range(1, 4)]
    records += [record("zoo", f"Slow {i}?", f"{SLOW_SQL} WHERE i > {i}") for i in range(3)]
    write_json(tmp_path / "questions.json", records)
    for name in DATABASES:
        make_database(tmp_path / "databases" / name / f"{name}.sqlite")
    killed = subprocess.Popen(command(tmp_path, "killed"), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    log = tmp_path / "killed" / "verdicts.jsonl"
    deadline_s = time.monotonic() + 600
    # The first line is the clock's.
    while (
        not (log.is_file() and log.read_bytes().count(b"\n") > 1)
        and killed.poll() is None
        and time.monotonic() < deadline_s
    ):
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not (tmp_path / "killed" / "manifest.json").exists()
    clock = json.loads(log.read_text().splitlines()[0])["value"]
    for out, given in (("killed", ()), ("undisturbed", ("--clock", clock))):
        whole = [*command(tmp_path, out), *given]
        done = subprocess.run(whole, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    one, other = (contents(tmp_path / out) for out in ("killed", "undisturbed"))
    one.pop("verdicts.jsonl"), other.pop("verdicts.jsonl")  # in the order of the checks
    assert one == other
