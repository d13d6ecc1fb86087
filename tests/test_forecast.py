"""The time left of a run, as it goes on: on machines faster and slower than their plan, by a clock of the test."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from floe.cluster.messages import WarmStartBatch
from floe.cluster.terminal import progress as progress_module
from floe.cluster.terminal.progress import Progress
from floe.cluster.time_plan.comparison import compare
from floe.cluster.time_plan.forecast import Forecast, Mark
from floe.cluster.time_plan.plan import TimePlan
from floe.cluster.time_plan.plan_files import keep_mark, read_marks, read_plan, start_record
from tests.step_records import step_record

PLAN = TimePlan(
    start_s=30, warm_start_s=115, num_batches=40, max_batches=60, batch_s=2, held_back_s=4, before_s=120,
    num_before=1800, num_steps=10, generation_s=10, learning_s=10, rest_s=2, num_interim=0, interim_s=0, after_s=120,
    num_after=2100, wave_s=20, slowdown=1,
)  # fmt: skip


def run(learner: float, engine: float) -> list[Mark]:
    """Return moments of a run whose learner and engine take so many times as long as the plan says."""
    forecast, now_s, marks = Forecast(PLAN), 5.0, []

    def mark(phase: str, step: int = 0) -> None:
        marks.append(Mark(at_s=now_s, phase=phase, step=step, left_s=forecast.left_s(now_s)))

    def begin(phase: str) -> None:
        forecast.phase(phase, now_s)
        mark(phase)

    def answer(num_all: int, whole_s: float) -> None:
        nonlocal now_s
        for number in range(1, 101):
            now_s += whole_s / 100
            forecast.answers(num_all * number // 100, num_all, now_s)

    mark("set-up")
    begin("warm start")
    now_s += 15 * learner
    for number in range(1, 41):
        now_s += PLAN.batch_s * learner
        forecast.batch(number, 60, PLAN.batch_s * learner, now_s)
        now_s += PLAN.held_back_s * learner * (number % 8 == 0)
    begin("start of the actors")
    now_s += PLAN.start_s
    begin("evaluation before")
    answer(PLAN.num_before, PLAN.before_s * engine)
    begin("GRPO")
    for step in range(1, 11):
        took_s = PLAN.generation_s * engine + PLAN.learning_s * learner + PLAN.rest_s
        now_s += took_s
        forecast.step(took_s, PLAN.generation_s * engine, 10 - step, now_s)
        mark("GRPO", step)
    begin("evaluation after")
    answer(PLAN.num_after, PLAN.after_s * engine)
    marks.append(Mark(at_s=now_s, phase="", step=10, left_s=None))
    return marks


@pytest.mark.parametrize(("learner", "engine"), [(1, 1), (3, 1), (1, 3), (0.4, 2), (10, 10)])
def test_from_the_third_step_on_the_whole_is_known_within_30_percent(learner, engine):
    found = compare(PLAN, run(learner, engine))
    assert set(found.ratios_by_step) == set(range(1, 11))
    worst = found.worst_from_third_step
    assert worst is not None and 1 / 1.3 <= worst <= 1.3
    # The rest grows in the same way.
    marks = run(learner, engine)
    end_s = marks[-1].at_s
    for one in marks:
        if one.step >= 3 and one.left_s is not None:
            assert 1 / 1.3 <= one.left_s / (end_s - one.at_s) <= 1.3


def test_a_plan_that_is_right_is_right_from_the_start():
    found = compare(PLAN, run(1, 1))
    assert found.ratio_at_start == pytest.approx(1.0, abs=0.05)
    assert {one.phase: one.ratio for one in found.phases} == pytest.approx(
        {"warm start": 1, "start of the actors": 1, "evaluation before": 1, "GRPO": 1, "evaluation after": 1}, abs=0.05
    )


def test_a_warm_start_corrects_the_steps_that_it_has_not_seen():
    marks = {mark.phase: mark for mark in run(5, 1) if mark.phase and mark.step == 0}
    assert marks["start of the actors"].left_s == pytest.approx(30 + 120 + 10 * (10 + 50 + 2) + 120, rel=0.1)
    marks = {mark.phase: mark for mark in run(1, 5) if mark.phase and mark.step == 0}
    assert marks["GRPO"].left_s == pytest.approx(10 * (50 + 10 + 2) + 600, rel=0.1)


def test_a_batch_beyond_the_expected_end_leaves_time_until_the_last():
    forecast = Forecast(PLAN)
    forecast.phase("warm start", 0)
    forecast.batch(55, 60, 2.0, 200.0)
    assert 0 < forecast.phase_left_s(200.0) < 20
    forecast.batch(60, 60, 2.0, 210.0)
    assert forecast.phase_left_s(210.0) < 4
    assert forecast.phase_left_s(10_000.0) == 0


def test_the_answers_of_a_phase_are_counted_over_its_evaluations():
    forecast = Forecast(PLAN)
    forecast.phase("evaluation before", 0)
    forecast.answers(900, 900, 100.0)
    forecast.answers(9, 900, 101.0)
    assert forecast.phase_left_s(101.0) == pytest.approx(101 / 909 * 891)


def test_interim_evaluations_count_among_the_steps():
    forecast = Forecast(replace(PLAN, num_interim=2, interim_s=30, after_s=0))
    forecast.phase("GRPO", 0)
    forecast.interim(50.0, 50.0)
    forecast.step(20.0, 10.0, 9, 70.0)
    assert forecast.left_s(70.0) == pytest.approx(9 * 20 + 50)


def test_a_run_without_an_end_is_not_compared():
    with pytest.raises(ValueError, match="not ended"):
        compare(PLAN, run(1, 1)[:-1])


def test_a_runs_folder_holds_the_plan_and_how_it_came_out(tmp_path):
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(console, num_steps=10)
    progress.phase("set-up")
    start_record(tmp_path, PLAN)
    progress.planned(PLAN, lambda mark: keep_mark(tmp_path, mark))
    progress.phase("GRPO")
    progress.step(step_record(1, step_s=22.0, rollout_s=10.0), 10)
    progress.finished()
    assert read_plan(tmp_path) == PLAN
    marks = read_marks(tmp_path)
    assert [(mark.phase, mark.step) for mark in marks] == [("set-up", 0), ("GRPO", 0), ("GRPO", 1), ("", 1)]
    assert marks[0].left_s == pytest.approx(PLAN.whole_s, abs=5)
    assert marks[2].left_s == pytest.approx(9 * 22 + 120, abs=5)


def test_a_cut_off_last_moment_is_left_out(tmp_path):
    start_record(tmp_path, PLAN)
    keep_mark(tmp_path, Mark(at_s=1, phase="GRPO", step=0, left_s=2.0))
    with (tmp_path / "time_marks.jsonl").open("a") as file:
        file.write('{"at_s": 2')
    assert [mark.at_s for mark in read_marks(tmp_path)] == [1]


def batches(progress: Progress) -> None:
    progress.phase("warm start")
    for number in (1, 2):
        progress.batch(WarmStartBatch(number=number, max_number=60, seconds=2.0))


def test_a_long_phase_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(progress_module, "PART_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(console, num_steps=10)
    progress.planned(PLAN, lambda mark: None)
    batches(progress)
    lines = console.file.getvalue().splitlines()
    assert lines[1].startswith("  batch 1 of at most 60, about 1 min") and lines[2].startswith("  batch 2 of at most")
    assert progress.part.startswith("batch 2 of at most 60, about 1 min") and progress.watched().part == progress.part
    progress.phase("evaluation before")
    assert progress.part == ""
    progress.answers(90, 900)
    assert console.file.getvalue().splitlines()[-1] == "  answers 90 of 900"


def test_lines_of_a_long_phase_come_now_and_then():
    console = Console(file=io.StringIO(), width=100)
    batches(Progress(console))
    assert len(console.file.getvalue().splitlines()) == 1


def test_without_a_plan_batches_have_the_pace_of_the_last():
    progress = Progress(Console(file=io.StringIO(), width=100))
    batches(progress)
    assert progress.part == "batch 2 of at most 60, about 1 min 56 s left"
    assert progress.left_s is None
