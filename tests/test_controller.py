"""The main loop: versions, order, dropped groups and failures, with fakes at its four protocols."""

import pytest

from floe.cluster.loop.controller import TooManyDroppedGroups
from floe.cluster.loop.step_health import UnhealthyStep
from floe.cluster.messages import Outcome, StepReport
from tests.fake_cluster import (
    NUM_CANDIDATES,
    PREFILL,
    FakeCluster,
    InstallFailed,
    group_of,
    names_of,
    names_of_step,
    run,
)


def failed(*numbers: int, outcome: Outcome = Outcome.INFRASTRUCTURE) -> dict[str, tuple[Outcome, ...]]:
    """Give no candidate of these questions of step 1 a verdict."""
    return {f"s1q{number}": (outcome,) * NUM_CANDIDATES for number in numbers}


def test_each_step_generates_with_the_version_before_it_trains_and_publishes_its_own():
    cluster = run(FakeCluster(), num_steps=3)
    expected = []
    for step in (1, 2, 3):
        expected += [
            ("generate", names_of_step(step), step - 1),
            ("to learner",),
            ("update", step),
            ("export", step),
            ("to rollouts",),
            ("install", step),
            ("prove", step),
            ("record", step),
            ("health", step),
            ("checkpoint", step),
        ]
    assert cluster.events == expected


@pytest.mark.parametrize(
    "arrival",
    [list, lambda groups: groups[::-1], lambda groups: groups[2:] + groups[:2]],
    ids=["in order", "reversed", "rotated"],
)
def test_groups_reach_learner_and_recorder_in_the_order_of_the_requests_however_they_arrive(arrival):
    cluster = run(FakeCluster(arrival), num_steps=2)
    for step in (1, 2):
        assert names_of(cluster.trained[step]) == names_of_step(step)
        assert cluster.recorded[step - 1] == (names_of_step(step), 0, step, step)


def test_scores_belong_to_the_completions_beside_them():
    cluster = run(FakeCluster(lambda groups: groups[::-1]))
    for group in cluster.trained[1]:
        messages = [score.message for score in group.scores]
        assert messages == [f"verdict on {PREFILL}{completion.text}" for completion in group.rollout.completions]


def test_what_is_scored_is_the_completion_with_the_prefill_in_front():
    cluster = run(FakeCluster())
    first = cluster.score_requests[0]
    assert (first.question_id, first.database_id, first.gold_sql) == ("s1q0", "shop", ("SELECT 1",))
    assert [one.completion for one in first.candidates] == ["SELECT s1q0/0", "SELECT s1q0/1"]
    assert all(one.sql is None for one in first.candidates)


def test_a_group_is_submitted_for_scoring_before_the_next_one_is_generated():
    log: list[str] = []

    class Streaming(FakeCluster):
        def generate(self, requests, adapter_version):
            for one in requests:
                log.append(f"generated {one.question.question_id}")
                yield group_of(one)

        def submit(self, request):
            log.append(f"submitted {request.question_id}")
            return super().submit(request)

    run(Streaming())
    assert log == [f"{what} {name}" for name in names_of_step(1) for what in ("generated", "submitted")]


@pytest.mark.parametrize("outcome", [Outcome.INFRASTRUCTURE, Outcome.GOLD_FAILED])
def test_a_group_without_a_verdict_is_kept_from_the_learner_counted_and_recorded(outcome):
    cluster = run(FakeCluster(verdicts=failed(3, outcome=outcome)))
    assert names_of(cluster.trained[1]) == ["s1q0", "s1q1", "s1q2", "s1q4"]
    assert cluster.recorded == [(names_of_step(1), 1, 1, 1)]


def test_a_group_with_one_verdict_is_trained_on():
    cluster = run(FakeCluster(verdicts={"s1q2": (Outcome.INFRASTRUCTURE, Outcome.MISMATCH)}))
    assert names_of(cluster.trained[1]) == names_of_step(1)
    assert cluster.recorded[0][1] == 0


def test_too_many_groups_without_a_verdict_stop_the_run_and_the_first_one_is_named():
    cluster = FakeCluster(lambda groups: groups[::-1], failed(1, 3))
    with pytest.raises(TooManyDroppedGroups) as stopped:
        run(cluster, num_steps=2)
    for part in ("step 1", "2 of 5 groups", "question s1q1", "database shop", "infrastructure", "verdict on"):
        assert part in str(stopped.value)
    assert cluster.kinds() == ["generate"]


@pytest.mark.parametrize(("share", "stops"), [(0.39, True), (0.4, False), (1.0, False)])
def test_the_run_stops_above_the_allowed_share_and_not_at_it(share, stops):
    cluster = FakeCluster(verdicts=failed(0, 4))
    if stops:
        with pytest.raises(TooManyDroppedGroups):
            run(cluster, max_dropped_share=share)
    else:
        assert run(cluster, max_dropped_share=share).recorded[0][1] == 2


def test_without_an_allowance_one_group_without_a_verdict_stops_the_run():
    with pytest.raises(TooManyDroppedGroups, match="1 of 5 groups"):
        run(FakeCluster(verdicts=failed(4)), max_dropped_share=0.0)


def test_a_failing_install_stops_the_run_before_the_next_rollout():
    cluster = FakeCluster(failing_install=2)
    with pytest.raises(InstallFailed):
        run(cluster, num_steps=4)
    assert cluster.kinds() == [
        "generate",
        "to learner",
        "update",
        "export",
        "to rollouts",
        "install",
        "prove",
        "record",
        "health",
        "checkpoint",
        "generate",
        "to learner",
        "update",
        "export",
        "to rollouts",
    ]


def test_a_request_without_a_group_stops_the_run_before_the_update():
    cluster = FakeCluster(lambda groups: groups[:-1])
    with pytest.raises(KeyError):
        run(cluster)
    assert cluster.kinds() == ["generate"]


def test_the_phases_of_a_step_are_timed():
    (timings,) = run(FakeCluster()).timings
    phases = (timings.rollout_s, timings.reward_s, timings.learn_s, timings.sync_s, timings.handover_s)
    assert all(seconds >= 0 for seconds in phases)
    assert sum(phases) <= timings.step_s


class NotDue(FakeCluster):
    def is_due(self, step: int, *, is_last: bool) -> bool:
        return is_last


def test_the_long_proof_is_for_versions_that_a_checkpoint_keeps():
    assert [event for event in run(NotDue(), num_steps=3).events if event[0] == "prove"] == [("prove", 3)]


class Unhealthy(FakeCluster):
    def check(self, report: StepReport) -> None:
        raise UnhealthyStep("engine and learner differ")


def test_an_unhealthy_step_is_recorded_and_kept_in_no_checkpoint():
    cluster = Unhealthy()
    with pytest.raises(UnhealthyStep):
        run(cluster, num_steps=3)
    assert cluster.kinds()[-1] == "record" and "checkpoint" not in cluster.kinds()
