"""The harness's requests, and the answers that count: by fakes of generation and scoring."""

from __future__ import annotations

from floe.cluster.evaluation.harness import Harness
from floe.cluster.evaluation.records import question_records
from floe.cluster.messages import Outcome, Question, ResultProfile, Score
from floe.configs.schema import RunConfig
from tests.fake_cluster import FakeCluster

QUESTIONS = [
    Question(question_id=name, database_id="shop", text=f"{name}?", gold_sql=("SELECT 1",), difficulty=level)
    for name, level in (("a", ""), ("b", "challenging"), ("c", ""))
]
RIGHT, WRONG, BAD = Outcome.MATCH, Outcome.MISMATCH, Outcome.SYNTAX_ERROR


class NoPrompts:
    answer_start = ""

    def prompt(self, question):
        return (1, 2)


class Judge(FakeCluster):
    """Verdicts by question for the samples, in order, and for the greedy answer; the digest is the outcome's name."""

    def __init__(self, sampled: dict[str, tuple[Outcome, ...]], greedy: dict[str, Outcome]) -> None:
        super().__init__()
        self._sampled, self._greedy = sampled, greedy

    def result(self, ticket):
        is_greedy = len(ticket.candidates) == 1
        outcomes = (self._greedy[ticket.question_id],) if is_greedy else self._sampled[ticket.question_id]
        return tuple(
            Score(outcome=one, reward=None, seconds=0.0, sql=str(one), profile=self._profile(one)) for one in outcomes
        )

    def _profile(self, outcome):
        if not outcome.executes:
            return None
        is_right = outcome is RIGHT
        return ResultProfile(
            digest=outcome.value, num_rows=1, column_counts={"x": {outcome.value: 1}},
            soft_f1=1.0 if is_right else 0.25,
            is_bird_match=is_right, is_spider_match=is_right, time_ratio=1.0 if is_right else None,
        )  # fmt: skip


def answered(judge: Judge, **changes):
    config = RunConfig.model_validate({"evaluation": {"num_samples": 4, "temperature": 0.7}})
    harness = Harness(config, NoPrompts(), judge, judge, num_timings=3)
    return harness.answers("policy", QUESTIONS, 5, 0.7, **changes)


def make_judge(**changes) -> Judge:
    sampled = {"a": (RIGHT, WRONG, WRONG, BAD), "b": (RIGHT, RIGHT, WRONG, WRONG), "c": (BAD, BAD, BAD, BAD)}
    return Judge(sampled | changes, {"a": WRONG, "b": RIGHT, "c": BAD})


def test_each_question_is_sampled_and_asked_greedily_with_profiles_and_only_the_greedy_answer_is_timed():
    judge = make_judge()
    answered(judge)
    assert judge.events == [("generate", ["a", "b", "c", "a", "b", "c"], 5)]
    assert [len(request.candidates) for request in judge.score_requests] == [4, 4, 4, 1, 1, 1]
    assert all(request.with_profiles for request in judge.score_requests)
    assert [request.num_timings for request in judge.score_requests] == [0, 0, 0, 3, 3, 3]


def test_the_row_of_the_table():
    policy = answered(make_judge()).policy()
    assert policy.question_ids == ("a", "b", "c")
    assert policy.greedy_correct == (False, True, False) and policy.greedy_executes == (True, True, False)
    assert policy.sample_num_correct == (1, 2, 0) and policy.sample_num_executes == (3, 4, 0)
    assert (policy.num_samples, policy.temperature, policy.entropy) == (4, 0.7, 0.5)


def test_a_question_without_a_verdict_for_every_answer_is_left_out_and_named():
    judge = make_judge(b=(RIGHT, RIGHT, Outcome.INFRASTRUCTURE, RIGHT))
    result = answered(judge)
    assert result.policy().question_ids == ("a", "c")
    assert result.without_verdict() == ("b: infrastructure: ",)
    assert [record.question_id for record in question_records(result, is_timed=False)] == ["a", "c"]


def test_without_greedy_answers_only_the_samples_count():
    policy = answered(make_judge(), greedy=False).policy()
    assert policy.greedy_correct is None and policy.sample_num_correct == (1, 2, 0)


def test_records_hold_votes_hardness_and_the_greedy_answers_measures():
    a, b, c = question_records(answered(make_judge()), is_timed=True)
    assert (a.exact_vote_correct, a.soft_vote_correct, a.num_correct, a.num_executes) == (False, False, 1, 3)
    assert (b.exact_vote_correct, b.soft_vote_correct) == (True, True)  # of equal votes the first sample
    assert (c.exact_vote_correct, c.soft_vote_correct) == (False, False)
    assert [one.hardness for one in (a, b, c)] == ["easy", "challenging", "easy"]
    assert [one.greedy.soft_f1 for one in (a, b, c)] == [0.25, 1.0, 0.0]
    assert [one.greedy.r_ves for one in (a, b, c)] == [0.0, 1.0, 0.0]
    assert b.greedy.is_bird_match and not a.greedy.is_bird_match
