"""The record of a version: bars and known misses, page and files, and a call that goes on where the last one ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from floe.cluster.bench.targets import Target
from floe.cluster.evaluation.before_after_table import PolicyAnswers, evaluation_report
from floe.cluster.record import __main__ as command
from floe.cluster.record import child, learning_parts
from floe.cluster.record.known_misses import KNOWN_MISSES
from floe.cluster.record.learning_parts import learning_figures
from floe.cluster.record.maker import commit_of, version_of
from floe.cluster.record.page import page
from floe.cluster.record.part_result import Figure, PartResult, figures_of
from floe.cluster.record.parts import PARTS, Setting, by_name, chosen_parts, maker_of
from floe.cluster.record.version_record import Maker, VersionRecord, misses, read_record, read_records
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY

DOCS = REPOSITORY / "docs"
MAKER = Maker(version="9.8.7", commit="abc", processor="a | processor", num_cores=2, libraries={"torch": "2.0"})
FAST = Figure(name="a / b", value=1.2, at_least=1.0)
CURVES = {f"seed {seed}": tuple([0.05] * 8 + [0.25 + 0.01 * seed] * 8) for seed in range(3)}


def record_of(*figures: Figure, version: str = "9.8.7") -> VersionRecord:
    date = "2026-01-02"
    part = PartResult(part="sync", is_complete=True, seconds=12.0, date=date, precision="float32", figures=figures)
    return VersionRecord(maker=replace(MAKER, version=version), date=date, parts={"sync": part})


# The records that there are.


def test_the_page_is_what_the_files_give():
    assert (DOCS / "record.md").read_text() == page(read_records(DOCS / "record")), (
        "run python -m floe.cluster.record --page"
    )


def test_the_newest_record_reaches_its_bars():
    assert [line for record in read_records(DOCS / "record")[-1:] for line in misses(record, KNOWN_MISSES)] == []


def test_no_trial_is_among_the_records():
    assert not [record.maker.version for record in read_records(DOCS / "record") if record.maker.is_quick]


# Bars.


@pytest.mark.parametrize(
    ("figure", "is_missed"),
    [
        (Figure(name="x", value=1.0, at_least=1.0), False),
        (Figure(name="x", value=0.99, at_least=1.0), True),
        (Figure(name="x", value=float("nan"), at_least=1.0), True),
        (Figure(name="x", value=float("nan"), at_most=1.0), True),
        (Figure(name="x", value=1.01, at_most=1.0), True),
        (Figure(name="x", value=0.0), False),
        (Figure(name="x", value=None, at_least=1.0), False),
    ],
)
def test_a_bar_is_missed_below_or_above(figure, is_missed):
    assert figure.misses is is_missed
    assert len(misses(record_of(figure), {})) == is_missed


def test_a_miss_is_a_sentence_and_a_known_one_is_not():
    record = record_of(FAST, replace(FAST, name="c / d", value=0.5))
    (line,) = misses(record, {})
    assert line.startswith("Record 9.8.7, sync: c / d is 0.5, and its bar is at least 1. Fix")
    assert misses(record, {("sync", "c / d"): "the reason"}) == []


def test_a_known_miss_that_is_none_any_more_is_named():
    (line,) = misses(record_of(FAST), {("sync", "a / b"): "the reason"})
    assert line.startswith("Record 9.8.7, sync: a / b does not miss its bar: remove it")


def test_what_a_bench_did_not_measure_is_no_figure():
    targets = [Target(name="x", ratio=2.0, at_least=1.5), Target(name="y", ratio=None, at_least=1.0)]
    assert figures_of(targets) == (Figure(name="x", value=2.0, at_least=1.5),)


def answers(name: str, right: int) -> PolicyAnswers:
    """Return answers to ten questions with two samples each, of which the first `right` are right."""
    correct = [number < right for number in range(10)]
    counts = tuple(2 * one for one in correct)
    return PolicyAnswers(
        name=name, temperature=1.0, question_ids=tuple(map(str, range(10))), greedy_correct=tuple(correct),
        greedy_executes=(True,) * 10, num_samples=2, sample_num_correct=counts, sample_num_executes=(2,) * 10,
    )  # fmt: skip


def test_figures_of_a_training_are_ratios_of_the_last_row_to_the_warm_start():
    policies = [answers("base model", 0), answers("warm start", 4), answers("GRPO", 8)]
    figures = learning_figures(evaluation_report(policies, num_resamples=100, seed=0), 1.0)
    found = {one.name: (one.value, one.at_least) for one in figures}
    assert found["GRPO / warm start, greedy"] == (2.0, 1.0)
    assert found["GRPO / warm start, mean of 2"] == (2.0, 1.2)
    assert found["GRPO / warm start, executes"] == (1.0, None)
    low, bar = found["GRPO less warm start, mean of 2, low end of the interval"]
    assert 0 < low < 0.4 and bar == 0.0


def test_a_policy_that_knew_nothing_makes_no_ratio():
    policies = [answers("warm start", 0), answers("GRPO", 8)]
    figures = learning_figures(evaluation_report(policies, num_resamples=9, seed=0))
    assert figures[0].value is None


# Files and page.


def test_a_record_is_read_as_it_was_written(tmp_path):
    curve = PartResult(part="curve", is_complete=True, curves=CURVES)
    left_out = PartResult(part="trl", is_complete=False, why="it was not run yet")
    written = record_of(FAST)
    written = replace(written, parts={**written.parts, "curve": curve, "trl": left_out})
    written.write(tmp_path / "9.8.7.json")
    found = read_record(tmp_path / "9.8.7.json")
    assert found == written
    assert not found.is_complete and found.precision == "float32"
    assert found.curve_range().num_steps == 16
    assert json.loads((tmp_path / "9.8.7.json").read_text())["commit"] == "abc"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": {"sync": {}}}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "1.0.0.json").write_text(text)
    with pytest.raises(UserError, match=r"1\.0\.0\.json is not a record"):
        read_records(tmp_path)


def test_records_come_by_version_and_not_by_letters(tmp_path):
    for version in ("0.10.0", "0.9.0", "0.2.0rc1"):
        record_of(FAST, version=version).write(tmp_path / f"{version}.json")
    assert [record.maker.version for record in read_records(tmp_path)] == ["0.2.0rc1", "0.9.0", "0.10.0"]


def test_a_record_without_curves_has_no_range():
    with pytest.raises(UserError, match="PARTS=curve"):
        record_of(FAST).curve_range()


def test_the_page_has_a_row_for_each_record_and_figure():
    older, newer = record_of(FAST, version="0.1.0"), record_of(replace(FAST, value=0.7), version="0.2.0")
    curve = PartResult(part="curve", is_complete=True, precision="float32", curves=CURVES)
    text = page([older, replace(newer, parts={**newer.parts, "curve": curve})])
    rows = ["| 0.2.0 | a / b | 0.7 | at least 1 | 12 s |", "| 0.1.0 | a / b | 1.2 | at least 1 | 12 s |"]
    assert "\n".join(rows) in text
    assert "| 0.2.0 | float32 | 0.100 | 0.145 to 0.375 | 0.05 0.05" in text
    assert "2 cores, a / processor" in text and "There is no record yet." not in text


def test_the_page_names_every_part_without_a_record_too():
    text = page([])
    assert all(f"| {part.name} | {part.what} |" in text for part in PARTS) and "There is no record yet." in text


# Parts.


def test_every_part_has_its_code():
    assert all(callable(maker_of(part)) for part in PARTS if part.module == learning_parts.__name__)


def test_parts_are_chosen_by_name_in_their_own_order():
    assert [part.name for part in chosen_parts("trl, curve")] == ["curve", "trl"]
    assert chosen_parts("") == PARTS
    with pytest.raises(UserError, match="'speed' is not a part of the record: PARTS takes some of curve, quickstart"):
        chosen_parts("speed")


def test_the_curves_configuration_has_the_steps_that_the_page_names():
    config = load_config(REPOSITORY / "configs" / "curve.yaml")
    assert (config.run.num_steps, config.data.max_train_questions) == (16, config.rollout.questions_per_step)


def test_geoquery_without_its_folder_is_left_out_and_says_so(tmp_path):
    result = child.result_of("geoquery", Setting(home_dir=tmp_path, work_dir=tmp_path, geoquery_dir=None))
    assert not result.is_complete and "make record GEOQUERY=prepared/geo" in result.why


def test_a_fault_makes_a_part_incomplete(tmp_path, monkeypatch, capfd):
    def broken(_: Setting) -> PartResult:
        raise RuntimeError("the ways' losses differ\nby much")

    monkeypatch.setattr(child, "maker_of", lambda _: broken)
    result = child.result_of("learner", Setting(home_dir=tmp_path, work_dir=tmp_path, geoquery_dir=None))
    assert (result.is_complete, result.why) == (False, "RuntimeError: the ways' losses differ")
    assert "Traceback" in capfd.readouterr().err


def test_a_parts_process_gets_its_setting_and_leaves_its_result(tmp_path, monkeypatch):
    seen: list[Setting] = []

    def made(setting: Setting) -> PartResult:
        seen.append(setting)
        return PartResult(part="sync", is_complete=True, figures=(FAST,))

    monkeypatch.setattr(child, "maker_of", lambda _: made)
    setting = Setting(home_dir=tmp_path, work_dir=tmp_path / "sync", geoquery_dir=tmp_path / "geo", is_quick=True)
    child.main(*child.arguments_of("sync", setting, tmp_path / "sync.json"))
    assert seen == [setting]
    found = PartResult.of_record(json.loads((tmp_path / "sync.json").read_text()))
    assert found.figures == (FAST,) and found.date


# The command.


@pytest.fixture
def run_parts(tmp_path, monkeypatch):
    """Return a call of the command in whose place of each part's process a result is taken, and the parts it ran."""
    ran: list[str] = []
    failing: set[str] = set()

    def run(part, given, workplace) -> PartResult:
        ran.append(part.name)
        result = PartResult(part=part.name, is_complete=part.name not in failing, why="a fault", date="2026-01-02")
        workplace.result_file(part).write_text(json.dumps(result.record()))
        return result

    monkeypatch.setattr(command, "_run", run)
    monkeypatch.setattr(command, "maker", lambda is_quick: replace(MAKER, is_quick=is_quick))

    def call(*arguments: str) -> int:
        ran.clear()
        return command.main(["--home", str(tmp_path / "home"), "--docs", str(tmp_path / "docs"), *arguments])

    call.ran, call.failing = ran, failing
    return call


def test_a_second_call_runs_what_is_not_complete(run_parts, tmp_path):
    run_parts.failing.add("sync")
    assert run_parts("--parts", "reward sync") == 1
    assert run_parts.ran == ["reward", "sync"]
    run_parts.failing.clear()
    assert run_parts("--parts", "reward sync trl") == 0
    assert run_parts.ran == ["sync", "trl"]
    record = read_record(tmp_path / "docs" / "record" / "9.8.7.json")
    assert [name for name, part in record.parts.items() if part.is_complete] == ["reward", "sync", "trl"]
    assert record.parts["curve"].why == "it was not run yet"
    assert (tmp_path / "docs" / "record.md").read_text() == page([record])
    assert run_parts("--parts", "sync", "--again") == 0
    assert run_parts.ran == ["sync"]


def test_a_damaged_result_is_run_again(run_parts, tmp_path):
    assert run_parts("--parts", "sync") == 0
    (tmp_path / "home" / "record" / "9.8.7-abc" / "sync.json").write_text("{")
    assert run_parts("--parts", "sync") == 0
    assert run_parts.ran == ["sync"]


def test_a_trial_is_never_written_among_the_records(run_parts, monkeypatch, capsys):
    monkeypatch.setattr(command, "DOCS", DOCS)
    assert command.main(["--quick", "--docs", str(DOCS)]) == 2
    assert "A trial is no record of the version" in capsys.readouterr().err
    assert run_parts.ran == []


def test_a_part_whose_process_dies_is_named_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "module_command", lambda *_: ["false"])
    workplace = command._Workplace(home_dir=tmp_path, maker=MAKER)
    workplace.folder.mkdir(parents=True)
    given = command._parser().parse_args(["--quick"])
    result = command._run(by_name("sync"), given, workplace)
    assert not result.is_complete and result.why == f"its process ended with 1: see {workplace.folder / 'sync.log'}"


def test_a_call_that_is_ended_asks_what_it_started_to_end(tmp_path):
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    inner = (
        f"import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
        f"pathlib.Path({str(ready)!r}).touch()\n"
        f"try:\n    time.sleep(600)\nfinally:\n    pathlib.Path({str(ended)!r}).touch()"
    )
    outer = (
        "import os, signal, sys; from floe.cluster.record.processes import run_to_end; "
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); "
        f"run_to_end([sys.executable, '-c', {inner!r}], os.environ, None)"
    )
    process = subprocess.Popen([sys.executable, "-c", outer], cwd=REPOSITORY)
    while not ready.exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=60) == 1
    assert ended.exists()


def test_the_commit_says_whether_files_were_changed(tmp_path):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "one.py").write_text("1")
    git("add", ".")
    git("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x")
    (tmp_path / "docs" / "record").mkdir(parents=True)
    for name in ("record/1.0.0.json", "record.md"):
        (tmp_path / "docs" / name).write_text("made by it")
    commit = commit_of(tmp_path)
    assert len(commit) == 10
    (tmp_path / "one.py").write_text("2")
    assert commit_of(tmp_path) == f"{commit}-changed"


def test_outside_of_a_checkout_there_is_no_record(tmp_path):
    with pytest.raises(UserError, match="a record is made in a checkout of floe"):
        version_of(tmp_path)
    with pytest.raises(UserError, match="a record names its commit"):
        commit_of(tmp_path)
    assert version_of(REPOSITORY) == version_of(Path(command.IMPORT_ROOT))
