"""A roll-back: its place in the main loop, the groups that it drops, the state that it goes back to."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from floe.cluster.checkpoints.best_policy import BestPolicy
from floe.cluster.health.guard import Guard, UnhealthyRun
from floe.cluster.loop.generation import Ahead, InTurn
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.step_health import StepHealth
from floe.cluster.messages import StepReport
from floe.cluster.run_folder.file_names import BEST_POLICY
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.training.run_health import RunHealth
from floe.configs.sections.health_section import HealthSection
from tests.fake_cluster import FakeCluster, run
from tests.health_series import HEALTHY
from tests.scored_groups import step_report

LIMITS = HealthSection(action="roll_back", window_steps=2)
ILL = HEALTHY | {"truncated_share": 1.0}


def report(step: int) -> StepReport:
    return step_report(step=step, logprob_mismatch_max=0.1)


class Learner:
    """A learner whose state is a text; `events` are the calls, in order."""

    def __init__(self, events: list[tuple]) -> None:
        self.events, self.weights = events, "start"
        self.continued: list[tuple[int, float]] = []

    def save_state(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "optimizer.safetensors").write_text(self.weights)

    def load_state(self, folder: Path) -> None:
        self.weights = (folder / "optimizer.safetensors").read_text()
        self.events.append(("load", self.weights))

    def continue_at(self, num_steps_done: int, rate_factor: float) -> None:
        self.continued.append((num_steps_done, rate_factor))

    def save_adapter(self, folder: Path) -> None:
        self.events.append(("latest", folder.name))


class Rewards:
    def __init__(self, events: list[tuple]) -> None:
        self.events = events

    def metrics(self) -> None:
        self.events.append(("forget scores",))


class Generation:
    def __init__(self, events: list[tuple]) -> None:
        self.events = events

    def halt(self) -> None:
        self.events.append(("halt",))

    def begin_anew(self, version: int) -> None:
        self.events.append(("begin anew", version))


def health_of(run_dir: Path, limits: HealthSection = LIMITS) -> tuple[RunHealth, Learner, FakeCluster]:
    cluster = FakeCluster()
    learner = Learner(cluster.events)
    guard = Guard(limits, has_evaluations=False)
    health = RunHealth(
        guard, StepHealth(limits, lambda line: None), BestPolicy(run_dir), learner, Progress(make_console())
    )
    health.connect(Generation(cluster.events), cluster, cluster, Rewards(cluster.events), run_dir / "latest")
    return health, learner, cluster


def test_a_roll_back_takes_the_next_steps_place_and_asks_nothing():
    cluster = FakeCluster()

    class Ill(FakeCluster):
        def check(self, report) -> None:
            super().check(report)
            self.wants_roll_back = report.step == 2

    cluster = run(Ill(), num_steps=4)
    assert [one[0] for one in cluster.events if one[1:2] == (3,)] == ["roll back", "checkpoint"]
    generated = [one[2] for one in cluster.events if one[0] == "generate"]
    assert generated == [0, 1, 3]


def test_a_finding_after_the_last_step_rolls_nothing_back():
    class Ill(FakeCluster):
        def check(self, report) -> None:
            self.wants_roll_back = report.step == 2

    assert "roll back" not in run(Ill(), num_steps=2).kinds()


def test_the_best_state_is_loaded_published_proved_and_generation_begins_anew_in_this_order(tmp_path):
    health, learner, cluster = health_of(tmp_path)
    health.begin(0, None, {})
    learner.weights = "two bad steps later"
    for step in (1, 2):
        health.see(step, ILL)
        health.check(report(step))
    assert health.wants_roll_back
    health.roll_back(3)
    assert cluster.events == [
        ("halt",), ("forget scores",), ("to learner",), ("load", "start"), ("export", 3), ("to rollouts",),
        ("install", 3), ("prove", 3), ("latest", "latest"), ("begin anew", 3),
    ]  # fmt: skip
    assert learner.continued == [(3, 0.5)] and health.state.oldest_version == 3
    assert not health.wants_roll_back


def test_a_run_that_continues_without_a_kept_version_goes_back_to_where_it_continues(tmp_path):
    """Change health.action at a resume: the checkpoint has no version to go back to."""
    health, learner, _ = health_of(tmp_path)
    learner.weights = "step 6"
    health.begin(6, tmp_path / "checkpoint without one", {})
    for step in (7, 8):
        health.see(step, ILL)
    learner.weights = "collapsed"
    health.roll_back(9)
    assert learner.weights == "step 6"


def test_a_fall_below_the_accuracy_of_the_start_is_found_where_the_run_only_warns(tmp_path):
    health, _, _ = health_of(tmp_path, HealthSection(window_steps=2))
    health.begin(0, None, {"eval_greedy": 0.6, "eval_num_questions": 500})
    found = [
        one for step in (1, 2) for one in health.see(step, HEALTHY | {"eval_greedy": 0.3, "eval_num_questions": 500})
    ]
    assert [one.detector for one in found] == ["accuracy_falling"] and "60.0 % (version 0)" in found[0].text


def test_a_better_version_is_kept_and_a_later_roll_back_goes_there(tmp_path):
    health, learner, _ = health_of(tmp_path)
    health.begin(0, None, {})
    for step in (1, 2):
        learner.weights = f"step {step}"
        health.see(step, HEALTHY)
    learner.weights = "collapsed"
    for step in (3, 4):
        health.see(step, ILL)
    health.roll_back(5)
    assert learner.weights == "step 2"


def test_the_rate_falls_with_each_roll_back_and_the_run_ends_after_the_last(tmp_path):
    health, learner, _ = health_of(tmp_path)
    health.begin(0, None, {})
    step = 0
    for _ in range(LIMITS.max_roll_backs):
        for _ in range(LIMITS.window_steps):
            step += 1
            health.see(step, ILL)
            health.check(report(step))
        step += 1
        health.roll_back(step)
    assert learner.continued == [(3, 0.5), (6, 0.25)]
    health.see(step + 1, ILL)
    health.see(step + 2, ILL)
    with pytest.raises(UnhealthyRun, match="has gone back 2 times already"):
        health.check(report(step + 2))


def test_a_run_that_only_warns_keeps_nothing_for_a_roll_back(tmp_path):
    health, _, _ = health_of(tmp_path, HealthSection(window_steps=2))
    health.begin(0, None, {})
    for step in (1, 2, 3, 4):
        health.see(step, HEALTHY)
    health.save_best(tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_is_said_with_what_follows(tmp_path, capsys):
    health, _, _ = health_of(tmp_path)
    health.begin(0, None, {})
    for step in (1, 2):
        health.see(step, ILL)
        health.check(report(step))
    health.roll_back(3)
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: step 2: 100.0 % of the completions were cut in steps 1 to 2" in said
    assert "goes back to its best version" in said
    assert "version 3 is version 0 again" in said and "0.5 times the schedule's" in said


def test_the_state_in_a_checkpoint_outlives_a_better_one_and_comes_back_with_it(tmp_path):
    best, learner = BestPolicy(tmp_path), Learner([])
    best.keep(learner)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    best.link_into(checkpoint)
    learner.weights = "a later one"
    best.keep(learner)
    (file,) = best.folder.iterdir()
    assert file.read_text() == "a later one"
    assert best.take_from(checkpoint) and file.read_text() == "start"
    assert best.folder == tmp_path / BEST_POLICY
    assert not best.take_from(tmp_path / "none")


class Collecting:
    """Generation that notes step and version, and waits for `go` at one step."""

    def __init__(self, held: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self.held, self.is_there, self.go = held, threading.Event(), threading.Event()

    def __call__(self, step: int, version: int) -> Collected:
        self.asked.append((step, version))
        if step == self.held and not self.go.is_set():
            self.is_there.set()
            assert self.go.wait(60)
        return Collected(groups=(), rollout_s=0.0, reward_s=0.0, adapter_version=version)


def ahead(collect: Collecting, max_staleness: int, **given) -> Ahead:
    return Ahead(collect, num_steps=9, max_staleness=max_staleness, in_turns=False, timeout_s=60, **given)


def test_groups_of_the_abandoned_policy_are_dropped_and_the_next_steps_come_from_the_new_version():
    collect = Collecting(held=6)
    generation = ahead(collect, max_staleness=2)
    for step in (1, 2, 3):
        generation.take(step)
        generation.note_published(step)
    assert collect.is_there.wait(60)  # step 6 is being generated with version 3; steps 4 and 5 wait to be taken
    threading.Timer(0.05, collect.go.set).start()
    generation.halt()
    num_before = len(collect.asked)
    assert collect.asked[-1] == (6, 3)
    generation.begin_anew(4)
    versions = []
    for step in range(5, 10):
        versions.append(generation.take(step).adapter_version)
        generation.note_published(step)
    assert versions == [4, 4, 4, 5, 6]
    assert collect.asked[num_before:] == list(zip(range(5, 10), versions, strict=True))
    generation.close()


def test_a_run_that_continues_after_a_roll_back_generates_with_the_same_versions():
    collect = Collecting()
    generation = ahead(collect, max_staleness=2, first_step=6, oldest_version=4)
    versions = []
    for step in range(6, 10):
        versions.append(generation.take(step).adapter_version)
        generation.note_published(step)
    assert versions == [4, 4, 5, 6]


def test_a_roll_back_after_generation_has_ended_starts_it_again():
    generation = ahead(Collecting(), max_staleness=1)
    for step in range(1, 8):
        generation.take(step)
        generation.note_published(step)
    deadline = time.monotonic() + 60
    while generation._is_running and time.monotonic() < deadline:
        generation.note_published(8)
    generation.halt()
    generation.begin_anew(8)
    assert generation.take(9).adapter_version == 8


def test_a_fault_of_the_generation_is_raised_by_the_roll_back():
    def failing(step: int, version: int) -> Collected:
        raise ZeroDivisionError

    generation = Ahead(failing, num_steps=3, max_staleness=1, in_turns=False, timeout_s=60)
    with pytest.raises(ZeroDivisionError):
        generation.halt()


def test_in_turn_the_next_step_comes_from_the_published_version():
    generation = InTurn(Collecting())
    generation.halt()
    generation.begin_anew(4)
    assert generation.take(5).adapter_version == 4
