"""`floe report` on folders of runs of every kind: contents of the page, reports of missing parts, and its size."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import webbrowser
from contextlib import closing
from pathlib import Path

import pytest

from floe.cluster.operations.report import report
from floe.cluster.report_page.collect import collect_page
from floe.cluster.report_page.document import document
from floe.cluster.report_page.rollout_sample import MAX_CANDIDATES, MAX_STEPS
from floe.cluster.run_folder.status import RunState
from floe.configs.errors import UserError
from tests.command_line import REPOSITORY
from tests.run_folders import (
    BROKEN,
    GOLD,
    RIGHT,
    WRONG,
    group_rows,
    long_run_rows,
    run_folder,
    small_run,
    write_evaluations,
    write_metrics,
    write_rollouts,
    write_status,
)

NOW_S = 1_790_000_200.0
MAX_PAGE_BYTES = 20_000_000


def page_of(folder: Path):
    return collect_page(folder, NOW_S)


def missing_of(folder: Path) -> str:
    return " ".join(page_of(folder).missing)


def test_a_finished_run_has_everything(tmp_path):
    page = page_of(small_run(tmp_path / "run"))
    assert page.missing == []
    assert {figure.name for figure in page.figures if figure.plot is None} == {"kl"}
    facts = {fact.label: fact.value for fact in page.facts}
    assert (facts["state"], facts["steps done"], facts["greedy accuracy"]) == ("finished", "3 of 3", "50.0 → 75.0 %")
    assert [(row.database_id, row.num_questions) for row in page.databases] == [("shop", 4)]
    assert [one.question_id for one in page.changes.gained] == ["q0", "q3"]
    assert [one.question_id for one in page.changes.lost] == ["q1"]


def test_candidates_are_grouped_and_their_rows_stand_beside_the_golds(tmp_path):
    values = page_of(small_run(tmp_path / "run")).rollouts.values
    assert len(values["groups"]) == 6
    last = values["groups"][4]
    assert (last["step"], last["kind"], last["outcomes"]) == (3, "some right", {"match": 3, "mismatch": 13})
    right, wrong = last["candidates"]
    assert (right["sql"], right["samples"], right["reward"]) == (GOLD, [0, 1, 2], 1.0)
    assert values["results"][wrong["result"]]["rows"] == [["pen"], ["cup"], ["'12'"]]
    question = values["questions"][last["question"]]
    (gold,) = question["golds"]
    assert gold["sql"].strip() == GOLD
    assert values["results"][gold["result"]]["rows"] == [["3"]]
    broken = values["groups"][5]["candidates"][0]
    assert broken["result"] is None and broken["message"] == "near SELEC: syntax error"
    assert "CREATE TABLE item" in values["schemas"]["shop"]


def test_nothing_is_written_but_the_page(tmp_path):
    folder = small_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report(folder, None, opens=False)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {folder / "report.html"}
    assert all(after[path] == content for path, content in before.items())


def test_the_same_folder_gives_the_same_page(tmp_path):
    folder = small_run(tmp_path / "run")
    assert document(page_of(folder)) == document(page_of(folder))


def test_without_the_databases_the_page_says_so_and_shows_the_rest(tmp_path):
    folder = small_run(tmp_path / "run")
    (tmp_path / "run-data" / "databases" / "shop" / "shop.sqlite").unlink()
    rollouts = page_of(folder).rollouts
    assert len(rollouts.values["groups"]) == 6
    assert rollouts.values["results"] == [] and rollouts.values["schemas"] == {}
    assert "not at hand" in rollouts.results_note and "'shop'" in rollouts.results_note


def test_a_gold_of_a_question_that_has_changed_is_not_shown(tmp_path):
    folder = small_run(tmp_path / "run")
    path = tmp_path / "run-data" / "questions.json"
    path.write_text(path.read_text().replace("How many items, number 0?", "How much?"))
    golds = {one["id"]: one["golds"] for one in page_of(folder).rollouts.values["questions"]}
    assert golds["q0"] == [] and len(golds["q1"]) == 1


def test_a_run_without_evaluation_says_so(tmp_path):
    folder = run_folder(tmp_path / "run", overrides=["evaluation.enabled=false"])
    write_status(folder, RunState.FINISHED, 2, 2)
    write_metrics(folder, (1, 2))
    write_rollouts(folder, group_rows(1, 0, "q0", [RIGHT] * 16))
    page = page_of(folder)
    assert page.missing == ["There is no before/after table: evaluation.enabled is false."]
    (accuracy,) = [figure for figure in page.figures if figure.name == "accuracy"]
    assert accuracy.missing == "The run was not evaluated while it trained: evaluation.every_steps is 0."
    assert "no evaluation by question" in document(page)


def test_a_run_that_died_after_two_steps_shows_these(tmp_path):
    folder = run_folder(tmp_path / "run")
    write_status(folder, RunState.DIED, 3)
    write_metrics(folder, (1, 2))
    write_rollouts(folder, [row for step in (1, 2) for row in group_rows(step, 0, "q0", [WRONG] * 16)])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "rew')
    page = page_of(folder)
    assert page.missing[0] == "The run died: its curves end at step 2 of 20."
    assert len(page.rollouts.values["groups"]) == 2
    assert {fact.label: fact.note for fact in page.facts}["state"] == "in step 3"
    assert "not reached its evaluation" in " ".join(page.missing)


def test_a_run_in_progress_is_read_while_it_writes(tmp_path):
    folder = run_folder(tmp_path / "run")
    write_status(folder, RunState.TRAINING, 2)
    write_metrics(folder, (1,))
    write_rollouts(folder, group_rows(1, 0, "q0", [RIGHT] * 16))
    writer = sqlite3.connect(folder / "rollouts.sqlite")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM rollouts")
    page = page_of(folder)
    writer.rollback()
    writer.close()
    assert page.missing[0] == "The run was going on at 2026-09-21 14:15:00 UTC: its curves end at step 1 of 20."
    assert len(page.rollouts.values["groups"]) == 1


def test_a_run_that_failed_before_its_first_step_is_a_page_too(tmp_path):
    folder = run_folder(tmp_path / "run")
    write_status(folder, RunState.FAILED, 0, phase="set-up", error="The port is busy: choose another.")
    page = page_of(folder)
    assert page.missing[:2] == [
        "The run failed: no step is done yet, so there are no curves.",
        "Its last error: The port is busy: choose another.",
    ]
    assert "no step was done" in document(page)


def test_unreadable_files_are_named_and_the_rest_is_shown(tmp_path):
    folder = small_run(tmp_path / "run")
    (folder / "config.yaml").write_text("run: {nonsense: 1}\n")
    (folder / "rollouts.sqlite").write_bytes(b"no database" * 100)
    (folder / "report.json").write_text("{}")
    (folder / "evaluations" / "start" / "evaluation.json").write_text("{}")
    (folder / "status.json").unlink()
    page = page_of(folder)
    said = " ".join(page.missing)
    for part in ("nonsense", "report.json can't be read", "holds no evaluation", "no status.json"):
        assert part in said
    assert "rollouts can't be read" in page.rollouts.sample_note
    assert len([figure for figure in page.figures if figure.plot is not None]) > 5
    document(page)


def test_evaluations_that_do_not_compare_are_a_sentence(tmp_path):
    folder = small_run(tmp_path / "run")
    path = folder / "evaluations" / "start" / "evaluation.json"
    saved = json.loads(path.read_text())
    saved["identity"]["comparator"] = "spider, 5 s"
    path.write_text(json.dumps(saved))
    page = page_of(folder)
    assert page.changes is None
    assert "comparator differ" in " ".join(page.missing)


HOSTILE = "</script><img src=x onerror=window.hacked=1><!--<script>\u2028\ud800{{ 7 * 7 }}"


def hostile_run(folder: Path) -> Path:
    """Make a run all of whose texts try to leave their place."""
    run_folder(folder, question=HOSTILE.replace("\ud800", "").replace("{", "{{").replace("}", "}}") + " {}?")
    write_status(folder, RunState.FAILED, 2, error=f"it failed {HOSTILE}".replace("\ud800", ""))
    write_metrics(folder, (1, 2))
    question = json.loads((folder.parent / f"{folder.name}-data" / "questions.json").read_text())[0]["question"]
    sql = f"SELECT '{HOSTILE}' AS \"{HOSTILE}\"".replace("\ud800", "")
    candidates = [RIGHT, (sql, "mismatch", 0.1), (f"{sql} {sql}", "syntax_error", 0.0)]
    write_rollouts(folder, group_rows(1, 0, "q0", candidates, question, message=HOSTILE.replace("\ud800", "")))
    write_evaluations(folder, "01", "10", text=question.replace("{", "{{").replace("}", "}}"))
    return folder


def test_hostile_text_stays_text(tmp_path):
    page = page_of(hostile_run(tmp_path / "run"))
    html = document(page)
    assert "<img" not in html and "<!--<" not in html
    assert html.count("</script>") == 3
    values = page.rollouts.values
    assert any("onerror" in str(result.get("rows")) for result in values["results"]), "its own rows are shown"
    assert "49" not in values["questions"][0]["text"]


def test_the_page_loads_nothing_and_lets_nothing_be_loaded(tmp_path):
    html = document(page_of(small_run(tmp_path / "run")))
    head = html[: html.index("</head>")]
    assert "default-src 'none'" in head.replace("&#39;", "'")
    assert "unsafe-eval" not in head and "script-src &#39;unsafe-inline" not in head
    body = html[html.index("<body>") : html.index('<script type="application/json"')]
    assert "http" not in body and "src=" not in body


def check_large_run(folder: Path, num_steps: int, num_groups: int) -> None:
    run_folder(folder, question="How many items?", num_questions=500)
    write_status(folder, RunState.FINISHED, num_steps, num_steps)
    write_metrics(folder, range(1, num_steps + 1))
    write_rollouts(folder, long_run_rows(num_steps, num_groups))
    write_evaluations(folder, "01" * 500, "10" * 500)
    page = page_of(folder)
    html = document(page)
    groups = page.rollouts.values["groups"]
    steps = sorted({group["step"] for group in groups})
    assert len(html.encode()) <= MAX_PAGE_BYTES
    assert steps[:3] == [1, 2, 3] and steps[-3:] == [num_steps - 2, num_steps - 1, num_steps]
    assert len(steps) == MAX_STEPS
    assert sum(sum(group["outcomes"].values()) for group in groups) <= MAX_CANDIDATES
    assert {group["kind"] for group in groups} >= {"all right", "some right", "none right, some run", "none runs"}
    assert f"of {num_steps * num_groups * 16:,} candidates, from {MAX_STEPS} of {num_steps} steps" in (
        page.rollouts.sample_note
    )


@pytest.mark.heavy
def test_a_run_of_a_thousand_steps_fits(tmp_path):
    check_large_run(tmp_path / "run", 1000, 8)


@pytest.mark.long
def test_a_run_of_a_thousand_steps_of_64_questions_fits(tmp_path):
    check_large_run(tmp_path / "run", 1000, 64)


@pytest.mark.heavy
def test_a_sample_of_long_texts_fits(tmp_path):
    folder = run_folder(tmp_path / "run")
    write_metrics(folder, range(1, 43))
    rows = []
    for step in range(1, 43):
        for group in range(10):
            long = [(f"SELECT '<é{step} {group} {i}{'é<' * 2000}'", "mismatch", 0.1) for i in range(16)]
            rows += group_rows(step, group, "q0", long)
    write_rollouts(folder, rows)
    page = page_of(folder)
    assert "left out to keep the page small" in page.rollouts.sample_note
    assert len(document(page).encode()) <= MAX_PAGE_BYTES


def test_steps_that_made_room_are_named(tmp_path):
    folder = run_folder(tmp_path / "run")
    write_metrics(folder, (1, 2, 3))
    write_rollouts(folder, group_rows(3, 0, "q0", [BROKEN] * 16))
    assert "Steps before 3 made room in rollouts.sqlite" in page_of(folder).rollouts.sample_note


def test_the_command_writes_prints_and_opens(tmp_path, capsys, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    folder = small_run(tmp_path / "run")
    report(folder, tmp_path / "other.html", opens=True)
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'other.html'} (")
    assert "No browser could be opened" in out
    assert opened == [(tmp_path / "other.html").as_uri()]
    with pytest.raises(UserError, match="Can't write"):
        report(folder, tmp_path / "nowhere" / "x.html", opens=False)
    with pytest.raises(UserError, match="is no run folder"):
        report(tmp_path, None, opens=False)


@pytest.mark.heavy
def test_floe_report_as_a_command(tmp_path):
    folder = small_run(tmp_path / "run")
    command = [sys.executable, "-m", "floe.cluster.cli", "report", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "report.html").stat().st_size < 6_000_000


def doc_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "docs" / "reports.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("query", doc_blocks("sql"))
def test_the_queries_of_the_docs_find_something(tmp_path, query):
    folder = small_run(tmp_path / "run")
    with closing(sqlite3.connect(folder / "rollouts.sqlite")) as connection:
        assert connection.execute(query).fetchall()


def test_the_python_of_the_docs_runs(tmp_path):
    folder = small_run(tmp_path / "run")
    names: dict = {}
    (code,) = doc_blocks("python")
    exec(code.replace("RUN_DIR", str(folder)).replace("timeout", "mismatch"), names)
    assert len(names["rows"]) == 13


@pytest.mark.engine
def test_the_page_of_a_real_run_lacks_nothing(smoke_run):
    page = page_of(smoke_run.run_dir)
    assert page.missing == []
    assert {figure.name for figure in page.figures if figure.plot is None} == {"accuracy"}
    assert page.changes is not None and page.databases
    values = page.rollouts.values
    assert len(values["groups"]) == 6 and values["schemas"]
    assert all(question["golds"] for question in values["questions"])
    assert any("rows" in result for result in values["results"])
    document(page)


def test_what_cant_be_told_is_said_below_the_table(tmp_path):
    lines = [
        "4 questions: too few to tell a gain",
        "No change can be told",
        "Every reward was 0: nothing could be learned",
    ]
    folder = small_run(tmp_path / "run")
    said = document(page_of(folder))
    assert [one in said for one in lines] == [True, True, False]
    write_metrics(folder, (1, 2, 3), reward_mean=0.0, zero_variance_share=1.0)
    assert all(one in document(page_of(folder)) for one in lines)
    write_evaluations(folder, "0" * 40, "01" * 20)
    assert [one in document(page_of(folder)) for one in (lines[0][1:], lines[1])] == [False, False]
    (folder / "report.json").unlink()
    assert lines[2] in document(page_of(folder))
