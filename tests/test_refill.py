"""Dynamic sampling: further questions that a step asks, its end, and the use of all its groups."""

import json
import sqlite3
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.evaluation.during_training import InterimEvaluation
from floe.cluster.loop.controller import TooManyDroppedGroups
from floe.cluster.loop.group_collection import Collected
from floe.cluster.messages import Outcome, Question
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.cluster.tracking.reward_metrics import RewardMeter, RewardMetrics
from floe.cluster.training.recorder import Measured, RunRecorder
from floe.configs.schema import AlgorithmSection, RolloutSection, RunConfig, RunSection
from floe.learner.loss.group_filter import carries_gradient
from floe.learner.loss.overlong import shaped_rewards
from floe.learner.loss.training_groups import training_groups
from tests.fake_cluster import NUM_CANDIDATES, FakeCluster, run
from tests.scored_groups import scored_group

PER_STEP = 4
LIMIT = 8
ALL_WRONG = (Outcome.MISMATCH,) * NUM_CANDIDATES
NO_VERDICT = (Outcome.INFRASTRUCTURE,) * NUM_CANDIDATES


def questions(count: int) -> list[Question]:
    return [
        Question(question_id=f"q{i}", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
        for i in range(count)
    ]


def config(max_rounds: int, seed: int = 1) -> RunConfig:
    return RunConfig(
        run=RunSection(seed=seed),
        rollout=RolloutSection(questions_per_step=PER_STEP, group_size=NUM_CANDIDATES, max_new_tokens=LIMIT),
        algorithm=AlgorithmSection(kl_coefficient=0.0, max_refill_rounds=max_rounds),
    )


class Encoder:
    def training_prompt(self, question: Question) -> tuple[int, ...]:
        return (1, 2)


class UselessAt(FakeCluster):
    """Gives `verdict` to question number i of a step, counted over all its rounds, where `useless` holds i."""

    def __init__(self, useless: set[int], verdict: tuple[Outcome, ...] = ALL_WRONG) -> None:
        super().__init__()
        self._useless = useless
        self._verdict = verdict
        self._num_asked = 0

    def generate(self, requests, adapter_version):
        for one in requests:
            # The verdict belongs to this step alone: a later one may ask the question again.
            self._verdicts.pop(one.question.question_id, None)
            if self._num_asked in self._useless:
                self._verdicts[one.question.question_id] = self._verdict
            self._num_asked += 1
        return super().generate(requests, adapter_version)

    def update(self, step, groups):
        self._num_asked = 0
        return super().update(step, groups)

    def rounds(self) -> list[list[str]]:
        return [event[1] for event in self.events if event[0] == "generate"]


def refilled(
    cluster: FakeCluster, max_rounds: int, num_questions: int = 60, num_steps: int = 1, seed: int = 1, **changes
) -> FakeCluster:
    settings = config(max_rounds, seed)
    pool = tuple(questions(num_questions))
    sets = QuestionSets(databases_dir=Path(), train=pool, tune=(), test=())
    return run(
        cluster,
        num_steps=num_steps,
        requests_of_step=lambda step: requests_of_step(settings, Encoder(), sets, step),
        refill=refill_of_run(settings, Encoder(), sets),
        **changes,
    )


def sizes(cluster: UselessAt) -> list[int]:
    return [len(names) for names in cluster.rounds()]


def num_useful(cluster: FakeCluster, step: int = 1) -> int:
    return len(training_groups(cluster.trained[step], config(0).algorithm, LIMIT))


def test_a_round_asks_exactly_as_many_questions_as_are_missing_until_none_is():
    # Three of the first four are useless, and one of their three replacements.
    cluster = refilled(UselessAt({0, 1, 3, 5}), max_rounds=9)
    assert sizes(cluster) == [4, 3, 1]
    assert cluster.refill_rounds == [2]
    assert num_useful(cluster) == PER_STEP


def test_without_a_useless_group_nothing_is_refilled():
    cluster = refilled(UselessAt(set()), max_rounds=9)
    assert sizes(cluster) == [4]
    assert cluster.refill_rounds == [0]


@pytest.mark.parametrize("max_rounds", [0, 1, 3])
def test_refilling_stops_at_the_limit_of_rounds(max_rounds):
    cluster = refilled(UselessAt(set(range(1, 100))), max_rounds)
    assert sizes(cluster) == [4] + [3] * max_rounds
    assert cluster.refill_rounds == [max_rounds]
    assert num_useful(cluster) == 1


@pytest.mark.parametrize(("num_questions", "expected"), [(4, [4]), (9, [4, 4, 1]), (12, [4, 4, 4])])
def test_refilling_stops_when_every_training_question_was_asked(num_questions, expected):
    cluster = refilled(UselessAt(set(range(100))), max_rounds=9, num_questions=num_questions)
    assert sizes(cluster) == expected
    assert sorted(name for names in cluster.rounds() for name in names) == sorted(f"q{i}" for i in range(num_questions))


def test_every_round_of_a_step_uses_its_adapter_and_comes_before_its_update():
    cluster = refilled(UselessAt({0, 4}), max_rounds=9, num_steps=2)
    step = ["generate", "generate", "generate", "to learner", "update", "export", "to rollouts", "install"]
    assert cluster.kinds() == [*step, "prove", "record", "health", "checkpoint"] * 2
    assert [event[2] for event in cluster.events if event[0] == "generate"] == [0] * 3 + [1] * 3


def test_all_groups_of_all_rounds_are_trained_on_and_recorded_in_the_order_of_the_rounds():
    cluster = refilled(UselessAt({0, 1, 4}), max_rounds=9)
    asked = [name for names in cluster.rounds() for name in names]
    assert len(asked) == 7
    assert cluster.recorded == [(asked, 0, 1, 1)]
    assert [group.rollout.question.question_id for group in cluster.trained[1]] == asked


def test_a_group_without_a_verdict_is_replaced_and_its_share_is_of_all_groups_sampled():
    cluster = refilled(UselessAt({2}, NO_VERDICT), max_rounds=1, max_dropped_share=0.2)
    assert sizes(cluster) == [4, 1]
    assert cluster.recorded[0][1] == 1
    with pytest.raises(TooManyDroppedGroups, match="1 of 5 groups"):
        refilled(UselessAt({2}, NO_VERDICT), max_rounds=1, max_dropped_share=0.19)
    with pytest.raises(TooManyDroppedGroups, match="1 of 4 groups"):
        refilled(UselessAt({2}, NO_VERDICT), max_rounds=0, max_dropped_share=0.2)


def test_a_second_run_asks_the_same_questions_with_the_same_seeds_and_another_seed_others():
    useless = {0, 1, 5, 6}
    first, second = (refilled(UselessAt(useless), max_rounds=3, num_steps=5) for _ in range(2))
    assert first.events == second.events
    assert first.trained == second.trained
    assert refilled(UselessAt(useless), max_rounds=3, num_steps=5, seed=2).rounds() != first.rounds()


def test_refilling_leaves_the_questions_and_streams_of_the_schedule_as_they_were():
    plain = refilled(UselessAt({0, 1, 5}), max_rounds=0, num_questions=13, num_steps=7)
    filled = refilled(UselessAt({0, 1, 5}), max_rounds=5, num_questions=13, num_steps=7)
    assert filled.refill_rounds == [2] * 7
    for step in range(1, 8):
        assert filled.trained[step][:PER_STEP] == plain.trained[step]


@given(
    num_questions=st.integers(PER_STEP, 30),
    useless=st.sets(st.integers(0, 30)),
    max_rounds=st.integers(0, 6),
    num_steps=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_no_step_asks_a_question_twice_or_ends_early_or_overfull(num_questions, useless, max_rounds, num_steps, seed):
    cluster = refilled(UselessAt(useless), max_rounds, num_questions, num_steps, seed)
    for step in range(1, num_steps + 1):
        seeds = [group.rollout.seed for group in cluster.trained[step]]
        names = cluster.recorded[step - 1][0]
        assert len(set(names)) == len(names) == len(set(seeds))
        assert num_useful(cluster, step) <= PER_STEP
        assert cluster.refill_rounds[step - 1] <= max_rounds
        if num_useful(cluster, step) < PER_STEP:
            assert cluster.refill_rounds[step - 1] == max_rounds or len(names) == num_questions


def test_seconds_and_rounds_of_rounds_add_up():
    groups = [scored_group([(Outcome.MATCH, 1.0)], question_id=name) for name in "ab"]
    first, later = (Collected(groups=(group,), rollout_s=1.0 + i, reward_s=0.25) for i, group in enumerate(groups))
    assert first + later == Collected(groups=tuple(groups), rollout_s=3.0, reward_s=0.5, num_rounds=2)


rewards = st.sampled_from([None, 0.0, 0.1, 1.0])
candidates = st.lists(st.tuples(rewards, st.integers(0, 3), st.booleans()), min_size=1, max_size=4)


@given(
    batch=st.lists(candidates, min_size=1, max_size=5),
    algorithm=st.builds(
        AlgorithmSection,
        kl_coefficient=st.sampled_from([0.0, 0.1]),
        drop_groups_without_match=st.booleans(),
        overlong=st.sampled_from(["keep", "mask", "punish"]),
        overlong_buffer_tokens=st.just(2),
        advantage_scale=st.sampled_from(["none", "std", "batch"]),
    ),
)
def test_what_counts_as_useful_is_what_the_learner_trains_on(batch, algorithm):
    groups = []
    for i, group in enumerate(batch):
        outcomes = {None: Outcome.INFRASTRUCTURE, 1.0: Outcome.MATCH}
        scored = scored_group([(outcomes.get(reward, Outcome.MISMATCH), reward) for reward, _, _ in group], str(i))
        completions = tuple(
            replace(one, token_ids=(5,) * length, logprobs=(-0.5,) * length, truncated=truncated)
            for one, (_, length, truncated) in zip(scored.rollout.completions, group, strict=True)
        )
        groups.append(replace(scored, rollout=replace(scored.rollout, completions=completions)))
    useful = [
        group.rollout.question.question_id
        for group in groups
        if carries_gradient(group, shaped_rewards(group, algorithm, 3), algorithm)
    ]
    trained = training_groups(groups, algorithm, 3)
    assert [group.name for group in trained] == useful
    assert all(group.branches for group in trained)


class NoProgress:
    def step(self, *_: object) -> None:
        pass


NO_INTERIM = InterimEvaluation(harness=None, questions=[], every_steps=0, turn=nullcontext)


class SavingCluster(UselessAt):
    def save_adapter(self, folder):
        pass

    def metrics(self) -> RewardMetrics:
        return RewardMeter().take([])


def test_log_and_metrics_hold_the_groups_of_every_round(tmp_path):
    cluster = SavingCluster({0, 1, 4})
    with RunRecorder(
        tmp_path, num_steps=1, learner=cluster, measured=Measured(rollouts=cluster, rewards=cluster),
        interim=NO_INTERIM, progress=NoProgress(), max_log_bytes=2**30,
    ) as recorder:  # fmt: skip
        cluster.record = recorder.record
        refilled(cluster, max_rounds=9)
    (record,) = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (record["num_groups"], record["refill_rounds"]) == (7, 2)
    assert record["zero_variance_share"] == pytest.approx(3 / 7)
    assert record["correct_share"] == pytest.approx(4 / 14)
    assert record["generated_tokens"] == 7 * NUM_CANDIDATES * 2
    with sqlite3.connect(tmp_path / "rollouts.sqlite") as log:
        rows = log.execute("SELECT question_id FROM rollouts WHERE sample_index = 0 ORDER BY group_index").fetchall()
    assert [name for (name,) in rows] == [name for names in cluster.rounds() for name in names]
