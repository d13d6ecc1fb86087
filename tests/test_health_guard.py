"""What the guard makes of findings: actions, the best version, its state, and what a run reads of it again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from floe.cluster.checkpoints.state import RunState
from floe.cluster.health.finding import HealthFinding, findings_of
from floe.cluster.health.guard import Guard, UnhealthyRun
from floe.configs.sections.health_section import HealthAction, HealthSection
from tests.health_series import found_in, series

CUT = {"truncated_share": 0.9}
BACK = {"action": "roll_back", "window_steps": 4}


def guard_of(has_evaluations: bool = False, **limits) -> Guard:
    guard = Guard(HealthSection(**limits), has_evaluations=has_evaluations)
    guard.begin(0, {})
    return guard


def test_a_finding_warns_and_is_said_again_after_ever_more_windows():
    found = found_in(series(100, **CUT))
    assert [one.step for one in found] == [8, 16, 32, 64] and {one.action for one in found} == {"warn"}


def test_what_was_found_once_and_is_over_is_not_said_again():
    assert [one.step for one in found_in(series(30, truncated_share=lambda step: 0.9 * (step < 9)))] == [8]


def test_stop_ends_the_run_with_the_cause_and_a_way_on():
    guard = guard_of(action="stop")
    findings = [one for step in series(8, **CUT) for one in guard.see(step)]
    with pytest.raises(
        UnhealthyRun, match=r"^step 8: 90\.0 % of the completions were cut .*health\.action=warn"
    ) as stopped:
        guard.check(findings)
    assert "\n" not in str(stopped.value)


def test_a_warning_stops_nothing():
    guard = guard_of()
    guard.check([one for step in series(8, **CUT) for one in guard.see(step)])
    assert guard.due is None and not guard.may_roll_back


def test_a_detector_may_have_an_action_of_its_own():
    ill = {"truncated_share": 0.9, "zero_variance_share": 1.0}
    found = found_in(series(8, **ill), actions={"truncation": "stop"})
    assert {one.detector: one.action for one in found} == {"truncation": "stop", "equal_rewards": "warn"}
    assert found_in(series(8, **CUT), actions={"truncation": "ignore"}) == []
    assert [one.detector for one in found_in(series(8, **ill), action="ignore", actions={"truncation": "warn"})] == [
        "truncation"
    ]


def test_each_roll_back_lowers_the_rate_and_the_finding_after_the_last_stops():
    guard = guard_of(max_roll_backs=2, **BACK)
    step = 0
    for number in (1, 2):
        for one in series(4, step + 1, **CUT):
            assert guard.due is None
            guard.check(guard.see(one))
        assert guard.due is not None and guard.due.action is HealthAction.ROLL_BACK
        step += 5
        guard.rolled_back(step)
        assert guard.state.rate_factor == 0.5**number and guard.state.oldest_version == step
    found = [one for figures in series(4, step + 1, **CUT) for one in guard.see(figures)]
    with pytest.raises(UnhealthyRun, match="gone back 2 times"):
        guard.check(found)
    assert guard.due is None


def test_after_a_roll_back_windows_begin_anew_and_the_first_one_stays():
    guard = guard_of(**BACK)
    for one in series(8, entropy_estimate=lambda step: 1.0 if step < 5 else 0.05):
        guard.see(one)
    assert guard.due is not None
    guard.rolled_back(9)
    for one in series(3, 10, entropy_estimate=0.05):
        assert guard.see(one) == ()
    (again,) = guard.see(series(1, 13, entropy_estimate=0.05)[0])
    assert "steps 1 to 4" in again.text and "steps 10 to 13" in again.text


def test_the_best_version_is_that_of_the_best_window_at_windows_ends_only():
    guard = guard_of(**BACK)
    rights = [0.1] * 4 + [0.5] * 4 + [0.3] * 4
    kept = []
    for one in series(12, correct_share=lambda step: rights[step - 1]):
        guard.see(one)
        kept += [one.step] * guard.is_best(one.step)
    assert kept == [4, 8] and guard.state.best is not None
    assert (guard.state.best.version, guard.state.best.value) == (8, 0.5)


def test_with_evaluations_the_best_version_is_theirs():
    guard = guard_of(has_evaluations=True, **BACK)
    guard.begin(0, {"eval_greedy": 0.3, "eval_num_questions": 50})
    accuracies = {2: 0.2, 4: 0.4, 6: 0.4, 8: 0.1}
    for one in series(8, correct_share=lambda step: step / 10, eval_greedy=accuracies.get, eval_num_questions=50.0):
        guard.see(one)
    assert guard.state.best is not None
    assert (guard.state.best.version, guard.state.best.measure) == (4, "interim accuracy")


def test_a_step_with_a_finding_is_never_the_best():
    guard = guard_of(**BACK)
    for one in series(4, correct_share=1.0, **CUT):
        guard.see(one)
    assert guard.state.best is not None and guard.state.best.version == 0


def test_a_design_that_runs_nothing_goes_by_its_reward():
    guard = guard_of(**BACK)
    for one in series(4, correct_share=None, executes_share=None, reward_mean=-0.5):
        guard.see(one)
    assert guard.state.best is not None and guard.state.best.measure == "mean reward"


def test_a_state_that_went_through_a_checkpoint_finds_the_same():
    steps = series(24, truncated_share=lambda step: 0.2 + 0.03 * step, kl=lambda step: None if step % 3 else 0.2 * step)
    whole = guard_of(**BACK)
    expected = [whole.see(one) for one in steps]
    for cut in range(1, 24, 3):
        first = guard_of(**BACK)
        found = [first.see(one) for one in steps[:cut]]
        state = RunState(
            step=cut, metrics_position=0, configuration={}, library_versions={}, live_adapter_versions=(cut,),
            health=first.state,
        )  # fmt: skip
        read = RunState.from_json(state.to_json())
        assert read == state
        second = Guard(HealthSection(**BACK), has_evaluations=False, state=read.health)
        assert [*found, *(second.see(one) for one in steps[cut:])] == expected
        assert second.state == whole.state


def test_a_checkpoint_of_a_version_without_the_guard_is_read():
    state = RunState(step=1, metrics_position=0, configuration={}, library_versions={}, live_adapter_versions=(1,))
    old = json.loads(state.to_json())
    del old["health"]
    assert RunState.from_json(json.dumps(old).encode()) == state


def test_another_window_begins_anew_and_keeps_the_roll_backs():
    guard = guard_of(**BACK)
    for one in series(4, **CUT):
        guard.see(one)
    guard.rolled_back(5)
    other = Guard(HealthSection(action="roll_back", window_steps=6), has_evaluations=False, state=guard.state)
    assert other.state.num_roll_backs == 1 and other.state.history.first == ()
    assert [one for step in series(5, 6, **CUT) for one in other.see(step)] == []


def test_a_roll_back_that_a_resume_no_longer_asks_for_is_not_made():
    guard = guard_of(**BACK)
    for one in series(4, **CUT):
        guard.see(one)
    assert guard.due is not None
    assert Guard(HealthSection(**BACK), has_evaluations=False, state=guard.state).due == guard.due
    assert Guard(HealthSection(window_steps=4), has_evaluations=False, state=guard.state).due is None


def test_findings_are_read_from_a_record_and_what_is_none_is_left_out():
    found = HealthFinding(step=7, detector="truncation", text="much was cut", action=HealthAction.WARN)
    record = {"step": 7, "health_findings": [found.values(), "odd", {"detector": 1}, found.values() | {"action": "x"}]}
    assert findings_of(record) == [found]
    assert findings_of({"step": 7}) == findings_of({"step": "7", "health_findings": [found.values()]}) == []
    assert findings_of({"step": 7, "health_findings": 3}) == []
    assert replace(found, step=8) != found
