"""Groups of unequal sizes: the weight of a question in the loss, and the plans for the largest group."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.memory_plan.engine_memory import group_kv_bytes
from floe.cluster.memory_plan.learner.packs import heaviest_pack
from floe.cluster.messages import Outcome
from floe.cluster.report_page.overview import settings
from floe.cluster.tracking.rollout_log import RolloutLog
from floe.configs.schema import AlgorithmSection, RunConfig
from floe.learner.loss.training_groups import training_groups
from tests.scored_groups import scored_group
from tests.test_memory_plan import SHAPE_3B

AGGREGATIONS = ("token", "sequence", "dr_grpo")
LIMIT = 128
RIGHT, WRONG = (Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.0)


def trained(sizes, rights=None, by_size=True, **algorithm):
    groups = [
        scored_group([RIGHT] * right + [WRONG] * (size - right), question_id=f"q{i}")
        for i, (size, right) in enumerate(zip(sizes, rights or [1] * len(sizes), strict=True))
    ]
    return training_groups(groups, AlgorithmSection(**{"kl_coefficient": 0.0} | algorithm), LIMIT, by_size=by_size)


def expected_gradient(size: int, other: int, rate: float) -> float:
    """Return the expected gradient of q0's reward, by enumeration; each answer's is 1 for a right one, 0 for others.

    A second group of `other` candidates is trained beside it, and a KL term keeps groups of equal rewards.
    """
    total = 0.0
    for outcomes in itertools.product((0, 1), repeat=size):
        chance = rate ** sum(outcomes) * (1 - rate) ** (size - sum(outcomes))
        groups = trained([size, other], [sum(outcomes), 1], kl_coefficient=0.1, loss_aggregation="sequence")
        branches = groups[0].branches
        total += chance * sum(one.weight * len(one.token_ids) * one.advantage for one in branches if one.advantage > 0)
    return total


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_questions_expected_gradient_is_to_anothers_as_their_rates_are_whatever_their_sizes(rate):
    # Of two groups with n and m candidates, both have p (1 - p) times the same factor.
    for size, other in ((2, 8), (4, 6), (8, 3)):
        first, second = expected_gradient(size, other, rate), expected_gradient(other, size, rate)
        assert first == pytest.approx(second)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=5))
def test_weights_still_sum_to_one_and_are_in_proportion_to_one_over_the_others(aggregation, sizes):
    groups = trained(sizes, loss_aggregation=aggregation)
    share = {"token": lambda n: 1, "sequence": lambda n: n, "dr_grpo": lambda n: LIMIT}[aggregation]
    counted = [one.weight * share(len(one.token_ids)) * (len(group.branches) - 1) for group in groups
               for one in group.branches]  # fmt: skip
    assert counted == pytest.approx([counted[0]] * len(counted))
    if aggregation != "dr_grpo":
        assert sum(one.weight * len(one.token_ids) for group in groups for one in group.branches) == pytest.approx(1)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equal_sizes_have_the_weights_of_before_to_the_bit(aggregation):
    for sizes in ([16] * 3, [7, 7]):
        assert trained(sizes, loss_aggregation=aggregation) == trained(
            sizes, loss_aggregation=aggregation, by_size=False
        )


def config(**rollout) -> RunConfig:
    rollout = {"dtype": "bfloat16", "max_new_tokens": 16} | rollout
    return RunConfig.model_validate({"model": {"max_context_tokens": 256}, "rollout": rollout})


def test_memory_is_planned_for_the_largest_group():
    unequal, large = config(min_group_size=4, max_group_size=48), config(group_size=48)
    for num_tokens in (1024, 4096):
        assert heaviest_pack(unequal, 16, num_tokens) == heaviest_pack(large, 16, num_tokens)
    assert heaviest_pack(unequal, 16, 4096) != heaviest_pack(config(), 16, 4096)
    assert group_kv_bytes(unequal, SHAPE_3B, on_cpu=True) == group_kv_bytes(large, SHAPE_3B, on_cpu=True)


def test_the_page_says_how_large_groups_are_and_how_questions_are_drawn():
    shown = {fact.label: fact.value for fact in settings(config(min_group_size=4, max_group_size=48))}
    assert shown["group"].startswith("4 to 48 candidates, 16 on average, 16 new tokens")
    assert "drawn by" not in shown
    drawn = settings(RunConfig.model_validate({"data": {"sampler": "posterior"}}))
    assert {fact.label: fact.value for fact in drawn}["drawn by"] == "sampler posterior"


def test_rollouts_of_unequal_groups_are_kept_with_their_places(tmp_path):
    groups = [scored_group([RIGHT, WRONG, WRONG], "a"), scored_group([RIGHT, WRONG], "b")]
    with RolloutLog(tmp_path / "rollouts.sqlite") as log:
        log.append(1, groups)
        rates = log.pass_rates()
    assert {name: (one.num_samples, one.num_correct) for name, one in rates.items()} == {"a": (3, 1), "b": (2, 1)}
