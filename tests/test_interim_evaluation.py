"""Evaluation during training: when it runs, by which version, what it keeps, and that nothing of it is trained on."""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from floe.cluster.evaluation.during_training import InterimEvaluation, check_held_back, interim_questions
from floe.cluster.evaluation.harness import Harness
from floe.cluster.loop.controller import train_grpo
from floe.cluster.loop.dynamic_sampling import collect_step
from floe.cluster.loop.generation import Ahead, InTurn
from floe.cluster.loop.group_collection import Collected
from floe.cluster.loop.token_budget import TokenBudget
from floe.cluster.messages import Outcome, Question
from floe.cluster.tracking.reward_metrics import RewardMeter, RewardMetrics
from floe.cluster.training.recorder import Measured, RunRecorder
from floe.configs.errors import UserError
from floe.configs.schema import EvaluationSection, RunConfig
from tests.fake_cluster import NO_REFILL, PREFILL, FakeCluster, requests_of_step

HELD_BACK = [
    Question(question_id=f"h{i}", database_id="zoo", text=f"Which {i}?", gold_sql=("SELECT 1",)) for i in range(4)
]
NUM_STEPS = 6


class NoPrompts:
    answer_start = ""

    def prompt(self, question):
        return (1, 2)


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def step(self, *_: object) -> None:
        pass

    def evaluated(self, *_: object) -> None:
        pass


class EvaluatedCluster(FakeCluster):
    """Gives each version its greedy accuracy; records from which version each folder was saved."""

    def __init__(self, accuracy: dict[int, int], **arguments) -> None:
        super().__init__(**arguments)
        self._accuracy = accuracy
        self._saved = 0
        self.best: list[int] = []
        self.evaluated: list[int] = []
        self.is_evaluating = False
        self.num_at_once = 0
        self.num_metrics_taken = 0
        self._lock = threading.Lock()

    def generate(self, requests, adapter_version):
        is_evaluation = requests[0].question.database_id == "zoo"
        if is_evaluation:
            assert ("install", adapter_version) in self.events or adapter_version == 0
            self.evaluated.append(adapter_version)
            self.is_evaluating = True
            time.sleep(0.005)
            right = self._accuracy.get(adapter_version, 0)
            for number, one in enumerate(requests):
                outcome = Outcome.MATCH if number < right else Outcome.MISMATCH
                self._verdicts[one.question.question_id] = (outcome,)
        else:
            self.num_at_once += self.is_evaluating
        yield from super().generate(requests, adapter_version)
        if is_evaluation:
            self.is_evaluating = False

    def update(self, step, groups):
        assert not self.is_evaluating
        self._saved = step
        return super().update(step, groups)

    def save_adapter(self, folder: Path) -> None:
        if folder.name == "best":
            folder.mkdir(parents=True, exist_ok=True)
            self.best.append(self._saved)

    def metrics(self) -> RewardMetrics:
        self.num_metrics_taken += 1
        return RewardMeter().take([])


def run(tmp_path: Path, cluster: EvaluatedCluster, every_steps: int, max_staleness: int = 0) -> list[dict]:
    def collect(step: int, version: int) -> Collected:
        return collect_step(cluster, cluster, requests_of_step(step), step, version, PREFILL, NO_REFILL)

    generation = (
        Ahead(collect, num_steps=NUM_STEPS, max_staleness=max_staleness, in_turns=True, timeout_s=60)
        if max_staleness
        else InTurn(collect)
    )
    harness = Harness(RunConfig(), NoPrompts(), cluster, cluster)
    with closing(generation):
        interim = InterimEvaluation(harness, HELD_BACK, every_steps, generation.learners_turn)
        with RunRecorder(
            tmp_path, num_steps=NUM_STEPS, learner=cluster, measured=Measured(rollouts=cluster, rewards=cluster),
            interim=interim, progress=Notes(), max_log_bytes=2**30,
        ) as recorder:  # fmt: skip
            cluster.record = recorder.record
            recorder.note_start()
            train_grpo(
                generation=generation, learner=cluster, device=cluster, broadcast=cluster, recorder=cluster,
                health=cluster, checkpoints=cluster, stop=cluster,
                num_steps=NUM_STEPS, budget=TokenBudget(), max_dropped_share=0.2,
            )  # fmt: skip
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_every_so_many_steps_the_version_just_published_is_evaluated_and_recorded(tmp_path):
    cluster = EvaluatedCluster({0: 1, 2: 3, 4: 4, 6: 4})
    records = run(tmp_path, cluster, 2)
    assert cluster.evaluated == [0, 2, 4, 6]
    assert [record.get("eval_greedy") for record in records] == [None, 0.75, None, 1.0, None, 1.0]
    assert [record["eval_is_best"] for record in records if "eval_is_best" in record] == [True, True, False]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    # Once before the first step, for each step's record, and after each evaluation, whose scores are no step's.
    assert cluster.num_metrics_taken == 1 + NUM_STEPS + len(cluster.evaluated)


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_outcomes_are_those_of_the_steps_own_candidates(tmp_path, max_staleness):
    """Test that a step counts its candidates alone: the pool scores the next one's too, an evaluation takes some."""
    records = run(tmp_path, EvaluatedCluster({0: 2, 2: 1, 4: 3, 6: 3}), 2, max_staleness)
    counts = [{name: n for name, n in one.items() if name.startswith("outcome_") and n} for one in records]
    assert counts == [{"outcome_match": 5, "outcome_mismatch": 5}] * NUM_STEPS


def test_the_best_adapter_is_kept_and_of_equal_ones_the_earliest(tmp_path):
    cluster = EvaluatedCluster({0: 2, 2: 1, 4: 3, 6: 3})
    run(tmp_path, cluster, 2)
    assert cluster.best == [0, 4]
    best = json.loads((tmp_path / "adapters" / "best.json").read_text())
    assert (best["adapter_version"], best["greedy"], best["num_questions"]) == (4, 0.75, 4)


def test_evaluation_is_off_unless_it_is_asked_for(tmp_path):
    cluster = EvaluatedCluster({})
    records = run(tmp_path, cluster, 0)
    assert cluster.evaluated == [] and cluster.best == []
    assert not any(name.startswith("eval_") for record in records for name in record)


@pytest.mark.parametrize("max_staleness", [1, 3])
def test_with_generation_ahead_in_turns_nothing_is_generated_beside_an_evaluation(tmp_path, max_staleness):
    cluster = EvaluatedCluster({1: 1, 2: 2, 3: 3})
    run(tmp_path, cluster, 1, max_staleness)
    assert cluster.evaluated == list(range(NUM_STEPS + 1))
    assert cluster.num_at_once == 0
    assert cluster.best == [0, 1, 2, 3]


def test_questions_without_a_verdict_count_neither_way():
    cluster = EvaluatedCluster({0: 4}, verdicts={})
    harness = Harness(RunConfig(), NoPrompts(), cluster, cluster)
    judge = cluster.result
    cluster.result = lambda ticket: (
        judge(ticket) if ticket.question_id != "h3" else (replace(judge(ticket)[0], outcome=Outcome.GOLD_FAILED),)
    )

    @contextmanager
    def turn():
        yield

    result = InterimEvaluation(harness, HELD_BACK, 1, turn).after(0)
    assert (result.greedy, result.num_questions, result.is_best) == (1.0, 3, True)
    cluster.result = lambda ticket: (replace(judge(ticket)[0], outcome=Outcome.INFRASTRUCTURE),)
    nothing = InterimEvaluation(harness, HELD_BACK, 1, turn).after(0)
    assert math.isnan(nothing.greedy) and not nothing.is_best


def test_the_sample_is_fixed_and_within_the_split():
    settings = EvaluationSection(every_steps=5, num_interim_questions=3)
    assert interim_questions(HELD_BACK, settings) == interim_questions(HELD_BACK, settings)
    assert len(interim_questions(HELD_BACK, settings)) == 3
    assert len(interim_questions(HELD_BACK[:2], settings)) == 2
    assert interim_questions(HELD_BACK, EvaluationSection()) == []


def test_what_is_evaluated_must_not_be_trained_on():
    train = [replace(HELD_BACK[0], question_id="t0"), HELD_BACK[1]]
    check_held_back(train[:1], [replace(HELD_BACK[0], database_id="farm"), HELD_BACK[2]])
    with pytest.raises(UserError, match=r"1 of 1 questions .* 'h1' on database zoo"):
        check_held_back(train, [replace(HELD_BACK[1], text="other")])
    with pytest.raises(UserError, match="'h9'"):
        check_held_back(train, [replace(HELD_BACK[0], question_id="h9", text="which  0?")])
