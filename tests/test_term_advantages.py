"""Advantages by term (GDPO): by hand, as properties, and in what follows from them: filter, designs, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup
from floe.cluster.tracking.reward_metrics import equal_terms_of
from floe.cluster.tracking.source_metrics import source_metrics, zero_variance_share
from floe.configs.errors import UserError
from floe.configs.schema import AlgorithmSection, RunConfig
from floe.learner.loss.group_filter import carries_gradient
from floe.learner.loss.overlong import shaped_rewards
from floe.learner.loss.term_advantages import term_advantages
from floe.learner.loss.training_groups import training_groups

WEIGHTS = {"execution": 3.0, "format": 1.0}
LIMIT = 10
GDPO = AlgorithmSection(advantage_terms="gdpo", kl_coefficient=0.0)


def group_of(rows, weights=WEIGHTS, lengths=None) -> ScoredGroup:
    """One candidate a row of terms; None stands for a candidate without a reward."""
    lengths = lengths or [2] * len(rows)
    completion = Completion(
        text="SELECT 1", token_ids=(1, 2), logprobs=(-0.5, -0.5), truncated=False, oldest_adapter_version=0,
        newest_adapter_version=0,
    )  # fmt: skip
    question = Question(question_id="q7", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
    rollout = RolloutGroup(
        group_id="", question=question, prompt_token_ids=(7, 8), temperature=0.8, seed=0,
        completions=tuple(replace(completion, token_ids=(1,) * n, logprobs=(-0.5,) * n) for n in lengths),
    )  # fmt: skip
    scores = tuple(
        Score(
            outcome=Outcome.INFRASTRUCTURE if row is None else Outcome.MISMATCH,
            reward=None if row is None else sum(row.values()),
            seconds=0.0,
            terms=row,
            term_weights=None if row is None else weights,
        )
        for row in rows
    )
    return ScoredGroup(rollout=rollout, scores=scores)


def advantages(*groups: ScoredGroup, algorithm=GDPO) -> list[np.ndarray]:
    return term_advantages(groups, [shaped_rewards(group, algorithm, LIMIT) for group in groups])


def rows_of(*columns):
    return [dict(zip(WEIGHTS, values, strict=True)) for values in zip(*columns, strict=True)]


def test_two_groups_by_hand():
    """Group 1: execution (1, -1), format (-1, 1), so 3 - 1 = 2 and -2. Group 2: format alone, 1 and -1."""
    first, second = advantages(group_of(rows_of([3, 0], [0, 1])), group_of(rows_of([3, 3], [1, 0])))
    std = np.sqrt((4 + 4 + 1 + 1) / 4)
    assert first.dtype == np.float64
    np.testing.assert_allclose(first, [2 / std, -2 / std], rtol=1e-15)
    np.testing.assert_allclose(second, [1 / std, -1 / std], rtol=1e-15)


def test_a_candidate_without_a_reward_is_masked_from_mean_and_std():
    (found,) = advantages(group_of([*rows_of([3, 0], [1, 1]), None]))
    np.testing.assert_array_equal(found, [1.0, -1.0, np.nan])


def test_constant_terms_give_exactly_zero():
    (found,) = advantages(group_of(rows_of([0.1, 0.1, 0.1], [0.7, 0.7, 0.7])))
    np.testing.assert_array_equal(found, [0.0, 0.0, 0.0])


def test_equal_totals_of_different_terms_carry_a_gradient_under_gdpo_alone():
    group = group_of(rows_of([3, 0], [0, 3]))
    rewards = [score.reward for score in group.scores]
    assert rewards[0] == rewards[1]
    assert carries_gradient(group, rewards, GDPO)
    assert not carries_gradient(group, rewards, AlgorithmSection(kl_coefficient=0.0))
    (trained,) = training_groups([group], GDPO, LIMIT)
    assert [branch.advantage for branch in trained.branches] == [1.0, -1.0]
    same = group_of(rows_of([3, 3], [1, 1]))
    assert not carries_gradient(same, [4, 4], GDPO)


def test_a_term_of_no_weight_carries_no_gradient():
    group = group_of(rows_of([3, 3], [1, 0]), weights={"execution": 3.0, "format": 0.0})
    assert not carries_gradient(group, [4, 3], GDPO)


def test_the_overlong_penalty_is_a_term_of_its_own():
    punish = AlgorithmSection(
        advantage_terms="gdpo", kl_coefficient=0.0, overlong="punish", overlong_buffer_tokens=4
    )  # fmt: skip
    group = group_of(rows_of([3, 0], [1, 1]), lengths=[10, 2])
    (found,) = advantages(group, algorithm=punish)  # 3 for execution, -1 for the penalty, whatever its size
    np.testing.assert_allclose(found, [1.0, -1.0])
    alone = group_of(rows_of([3, 3], [1, 1]), lengths=[8, 2])
    assert carries_gradient(alone, shaped_rewards(alone, punish, LIMIT), punish)


def test_a_designs_own_term_of_that_name_is_another():
    punish = AlgorithmSection(advantage_terms="gdpo", kl_coefficient=0.0, overlong="punish", overlong_buffer_tokens=4)
    rows = [{"execution": 0.0, "overlong": 1.0}, {"execution": 0.0, "overlong": 0.0}]
    group = group_of(rows, weights={"execution": 3.0, "overlong": 5.0}, lengths=[10, 2])
    (found,) = advantages(group, algorithm=punish)  # 5 for the design's term, -1 for the penalty
    np.testing.assert_allclose(found, [1.0, -1.0])
    assert carries_gradient(group, shaped_rewards(group, punish, LIMIT), punish)


def test_the_metrics_count_the_groups_without_a_gradient_and_each_term_that_is_all_the_same():
    traded, same = group_of(rows_of([3, 0], [0, 3])), group_of(rows_of([3, 3], [1, 1]))
    weightless = group_of(rows_of([3, 3], [1, 0]), weights={"execution": 3.0, "format": 0.0})
    unscored = group_of([None, None])
    groups = [traded, same, weightless, unscored]
    assert zero_variance_share(groups) == pytest.approx(2 / 3)  # of the totals
    assert zero_variance_share(groups, by_terms=True) == pytest.approx(2 / 3)
    assert zero_variance_share([traded]) == 1.0 and zero_variance_share([traded], by_terms=True) == 0.0
    assert zero_variance_share([weightless]) == 0.0 and zero_variance_share([weightless], by_terms=True) == 1.0
    shaped = {id(one): shaped_rewards(one, GDPO, LIMIT) for one in groups}
    assert [carries_gradient(one, shaped[id(one)], GDPO) for one in groups] == [True, False, False, False]
    rounded = group_of([{"execution": 0.1 + 0.2, "format": 1.0}, {"execution": 0.3, "format": 1.0}])
    assert zero_variance_share([rounded], by_terms=True) == 1.0  # the learner sees no difference either
    assert source_metrics([traded], ("",), by_terms=True)[0].zero_variance_share == 0.0
    assert equal_terms_of(groups) == pytest.approx({"execution": 2 / 3, "format": 1 / 3})
    assert equal_terms_of([group_of([{"star": 0.0}, {}], weights={"star": 1.0})]) == {"star": 1.0}


numbers = st.lists(st.integers(-4, 4).map(float), min_size=4, max_size=4)


@given(execution=numbers, form=numbers, factor=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_scale_of_a_term_does_not_matter(execution, form, factor):
    (plain,) = advantages(group_of(rows_of(execution, form)))
    (scaled,) = advantages(group_of(rows_of(execution, [factor * one for one in form])))
    np.testing.assert_allclose(scaled, plain, atol=1e-9)


@given(right=st.lists(st.booleans(), min_size=4, max_size=4), noise=numbers, size=st.floats(1e-3, 1e6))
@settings(deadline=None)
def test_a_noisy_term_flips_no_sign_beyond_what_the_weights_allow(right, noise, size):
    """A normalised value of 4 candidates is at most sqrt(3), and that of execution at least 1 / sqrt(3)."""
    weights = {"execution": 3.1, "format": 1.0}
    execution = [3.0 * one for one in right]
    (found,) = advantages(group_of(rows_of(execution, [size * one for one in noise]), weights))
    if 0 < sum(right) < 4:
        assert [value > 0 for value in found] == right


@pytest.mark.parametrize("weights", [None, {"execution": 3.0}])
def test_terms_without_weights_are_refused_with_the_question(weights):
    with pytest.raises(UserError, match="question q7 has no terms with a weight for each"):
        advantages(group_of(rows_of([3, 0], [1, 1]), weights))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reward": {"design": "arctic"}}, "reward.design arctic has no terms"),
        ({"reward": {"design": "sql_r1", "empty_gold": "down_weight"}}, "reward.empty_gold is down_weight"),
        ({"reward": {"design": "sql_r1"}, "algorithm": {"advantage_scale": "std"}}, "advantage_scale is 'std'"),
    ],
)
def test_what_gdpo_cannot_go_with_is_refused_at_configuration_time(changes, sentence):
    algorithm = {"advantage_terms": "gdpo"} | changes.get("algorithm", {})
    with pytest.raises(ValueError, match=sentence):
        RunConfig.model_validate(changes | {"algorithm": algorithm})
