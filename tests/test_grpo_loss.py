"""The GRPO loss and the weights of its tokens: a slow float64 reference, cases computed by hand, rules."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup
from floe.configs.schema import AlgorithmSection
from floe.learner.loss.grpo_loss import LossTerms, grpo_loss, importance_weights, kl_k3
from floe.learner.loss.training_groups import training_groups
from floe.learner.packing.packs import PrefixGroup, make_packs

NAN = math.nan
SETTINGS = {"clip_low": 0.2, "clip_high": 0.28, "importance_cap": 2.0}
MAX_NEW_TOKENS = 32


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_token(
    *, ratio: float = 1.0, advantage: float = 1.0, old: float = -1.0, engine: float | None = None, **settings
) -> LossTerms:
    """Return the loss of a single token of weight 1; the engine agrees with the learner unless told otherwise."""
    return grpo_loss(
        logprob=tensor([old + math.log(ratio)]),
        old_logprob=tensor([old]),
        engine_logprob=tensor([old if engine is None else engine]),
        advantage=tensor([advantage]),
        weight=tensor([1.0]),
        **(SETTINGS | settings),
    )


def random_tokens(seed: int, count: int = 40) -> dict[str, torch.Tensor]:
    """Ratios on both sides of the clips, both signs of advantage, importance above the cap, NaN from the engine."""
    generator = torch.Generator().manual_seed(seed)

    def normal(spread: float) -> torch.Tensor:
        return spread * torch.randn(count, generator=generator, dtype=torch.float64)

    old = -normal(1.5).abs()
    engine = old + normal(0.7)
    engine[torch.rand(count, generator=generator) < 0.1] = NAN
    return {
        "logprob": old + normal(0.3),
        "old_logprob": old,
        "engine_logprob": engine,
        "advantage": normal(1.0),
        "weight": torch.rand(count, generator=generator, dtype=torch.float64),
        "reference_logprob": old + normal(0.5),
    }


def slow_loss(
    tokens: dict[str, torch.Tensor], clip_low: float, clip_high: float, importance_cap: float, kl_coefficient: float
) -> tuple[float, list[float]]:
    """Return the loss and its gradient with respect to each token's log-probability, one token at a time."""
    total, gradient = 0.0, []
    columns = [tokens[name].tolist() for name in ("logprob", "old_logprob", "engine_logprob", "reference_logprob")]
    for new, old, engine, reference, advantage, weight in zip(
        *columns, tokens["advantage"].tolist(), tokens["weight"].tolist(), strict=True
    ):
        ratio = math.exp(new) / math.exp(old)
        importance = 1.0 if math.isnan(engine) else min(math.exp(old) / math.exp(engine), importance_cap)
        if advantage >= 0:  # a good token is pushed up until its ratio is 1 + clip_high
            is_clipped = ratio > 1 + clip_high
            objective = advantage * (1 + clip_high if is_clipped else ratio)
        else:  # a bad one is pushed down until its ratio is 1 - clip_low
            is_clipped = ratio < 1 - clip_low
            objective = advantage * (1 - clip_low if is_clipped else ratio)
        slope = 0.0 if is_clipped else advantage * ratio
        reference_ratio = math.exp(reference) / math.exp(new)
        kl = reference_ratio - math.log(reference_ratio) - 1
        total -= weight * (importance * objective - kl_coefficient * kl)
        gradient.append(-weight * (importance * slope - kl_coefficient * (1 - reference_ratio)))
    return total, gradient


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.3])
@pytest.mark.parametrize(("clip_low", "clip_high"), [(0.2, 0.2), (0.1, 0.4), (0.4, 0.05)])
def test_loss_and_gradient_equal_the_slow_reference(seed, kl_coefficient, clip_low, clip_high):
    tokens = random_tokens(seed)
    tokens["logprob"].requires_grad_()
    settings = {"clip_low": clip_low, "clip_high": clip_high, "importance_cap": 1.5, "kl_coefficient": kl_coefficient}
    terms = grpo_loss(**tokens, **settings)
    terms.loss.backward()
    expected_loss, expected_gradient = slow_loss(tokens, **settings)
    assert terms.loss.item() == pytest.approx(expected_loss, rel=1e-12)
    assert tokens["logprob"].grad.tolist() == pytest.approx(expected_gradient, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "is_clipped"),
    [
        (1.5, 1.0, 1.28, True),  # a good token already 50 % up: the gain ends at 1 + clip_high
        (1.25, 1.0, 1.25, False),  # above 1 + clip_low, which does not bind upwards
        (0.5, 1.0, 0.5, False),  # a good token that went down is pulled back however far it is
        (1.0, 3.0, 3.0, False),
        (0.5, -1.0, -0.8, True),  # a bad token already halved: the gain ends at 1 - clip_low
        (0.75, -2.0, -1.6, True),  # below 1 - clip_low, though above 1 - clip_high
        (1.5, -1.0, -1.5, False),  # a bad token that went up is pulled back however far it is
        (0.9, -2.0, -1.8, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_clip_cases_computed_by_hand(ratio, advantage, objective, is_clipped):
    terms = one_token(ratio=ratio, advantage=advantage)
    assert terms.loss.item() == pytest.approx(-objective)
    assert terms.clipped.tolist() == [is_clipped]
    assert terms.ratio.item() == pytest.approx(ratio)


@pytest.mark.parametrize(("advantage", "direction"), [(1.0, -1), (-1.0, 1)])
def test_raising_the_log_probability_of_a_good_token_lowers_the_loss_and_of_a_bad_one_raises_it(advantage, direction):
    loss = one_token(ratio=1.0, advantage=advantage).loss
    raised = one_token(ratio=1.1, advantage=advantage).loss
    assert torch.sign(raised - loss).item() == direction


def test_without_an_update_since_the_rollout_the_gradient_is_that_of_reinforce():
    tokens = random_tokens(7) | {"reference_logprob": None}
    logprob = tokens["old_logprob"].clone().requires_grad_()
    grpo_loss(**(tokens | {"logprob": logprob}), **SETTINGS).loss.backward()
    importance = importance_weights(tokens["old_logprob"], tokens["engine_logprob"]).clamp(max=2.0)
    torch.testing.assert_close(logprob.grad, -tokens["weight"] * importance * tokens["advantage"])


def test_importance_is_the_learners_probability_over_the_engines():
    weights = importance_weights(tensor([math.log(0.6), math.log(0.1)]), tensor([math.log(0.2), math.log(0.4)]))
    assert weights.tolist() == pytest.approx([3.0, 0.25])


def test_importance_above_the_cap_is_cut_and_below_it_is_kept_and_both_are_reported_uncut():
    above = one_token(old=math.log(0.5), engine=math.log(0.1))
    below = one_token(old=math.log(0.1), engine=math.log(0.4))
    assert (above.loss.item(), above.importance.item()) == pytest.approx((-2.0, 5.0))
    assert (below.loss.item(), below.importance.item()) == pytest.approx((-0.25, 0.25))


def test_a_nan_from_the_engine_gives_that_token_the_weight_one_and_leaves_the_gradient_finite():
    tokens = random_tokens(3, count=4)
    tokens["engine_logprob"] = tensor([NAN, -0.5, NAN, -0.1])
    tokens["logprob"].requires_grad_()
    terms = grpo_loss(**tokens, **SETTINGS, kl_coefficient=0.1)
    terms.loss.backward()
    assert terms.importance[0] == terms.importance[2] == 1.0
    assert terms.loss.isfinite() and tokens["logprob"].grad.isfinite().all()
    agreeing = torch.where(tokens["engine_logprob"].isnan(), tokens["old_logprob"], tokens["engine_logprob"])
    assert grpo_loss(**(tokens | {"engine_logprob": agreeing}), **SETTINGS, kl_coefficient=0.1).loss == terms.loss


def test_k3_by_hand():
    # pi = 1/2, pi_ref = 1/4: 1/2 - log(1/2) - 1
    assert kl_k3(tensor([math.log(0.5)]), tensor([math.log(0.25)])).item() == pytest.approx(math.log(2) - 0.5)


@given(logprob=st.floats(-30, 0), reference=st.floats(-30, 0))
def test_k3_is_not_negative_and_zero_where_the_policies_agree(logprob, reference):
    assert kl_k3(tensor([logprob]), tensor([reference])).item() >= -1e-15  # the rounding of d, at most 30
    assert kl_k3(tensor([logprob]), tensor([logprob])).item() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_k3_of_policies_that_hardly_differ_is_not_lost_in_float32(sign):
    difference = sign * torch.tensor([2.0**-k for k in range(2, 13)])
    kl = kl_k3(torch.full((11,), -1.0), -1.0 + difference)
    series = difference.double() ** 2 / 2 + difference.double() ** 3 / 6 + difference.double() ** 4 / 24
    assert (kl >= 0).all()
    torch.testing.assert_close(kl.double(), series, rtol=2e-3, atol=0)


def test_the_kl_is_added_to_the_loss_with_its_coefficient_and_reported_without():
    reference = tensor([-1.0 + math.log(0.5)])
    terms = one_token(advantage=2.0, reference_logprob=reference, kl_coefficient=0.1)
    assert terms.kl.item() == pytest.approx(math.log(2) - 0.5)
    assert terms.loss.item() == pytest.approx(-2.0 + 0.1 * (math.log(2) - 0.5))


def test_with_coefficient_zero_no_kl_is_computed():
    terms = one_token(reference_logprob=tensor([NAN]), kl_coefficient=0.0)
    assert terms.kl is None
    assert terms.loss.item() == -1.0


def test_the_gradient_of_the_kl_pulls_towards_the_reference():
    for reference, direction in ((-2.0, 1), (-0.5, -1)):
        logprob = tensor([-1.0]).requires_grad_()
        kl_k3(logprob, tensor([reference])).sum().backward()
        assert torch.sign(logprob.grad).item() == direction


@pytest.mark.parametrize("kl_coefficient", [0.0, 0.2])
def test_the_gradient_equals_finite_differences_away_from_the_kinks(kl_coefficient):
    tokens = random_tokens(11, count=24)
    log_ratio = tensor([-0.6, -0.35, -0.1, 0.1, 0.4, 0.7] * 4)  # the clips lie at log 0.8 = -0.22 and log 1.28 = 0.25
    logprob = (tokens["old_logprob"] + log_ratio).requires_grad_()

    def loss(logprob: torch.Tensor) -> torch.Tensor:
        return grpo_loss(**(tokens | {"logprob": logprob}), **SETTINGS, kl_coefficient=kl_coefficient).loss

    assert torch.autograd.gradcheck(loss, (logprob,))


def test_only_the_new_log_probabilities_get_a_gradient_through_the_metrics():
    tokens = random_tokens(1)
    tokens["logprob"].requires_grad_()
    terms = grpo_loss(**tokens, **SETTINGS, kl_coefficient=0.1)
    assert terms.loss.requires_grad
    assert not any(one.requires_grad for one in (terms.ratio, terms.clipped, terms.importance, terms.kl))


def test_a_token_of_weight_zero_does_not_matter():
    tokens = random_tokens(2)
    tokens["weight"][5:] = 0
    kept = {name: values[:5] for name, values in tokens.items()}
    whole, part = (grpo_loss(**some, **SETTINGS, kl_coefficient=0.1).loss for some in (tokens, kept))
    assert whole.item() == pytest.approx(part.item(), rel=1e-12)


# --- from scored groups to weights and advantages


def scored_group(candidates: list[tuple[float | None, int]], name: str = "q") -> ScoredGroup:
    """One candidate per (reward, number of tokens): 1.0 is a match, None an executor that failed."""
    completions = tuple(
        Completion(
            text="SELECT 1",
            token_ids=tuple(range(1, length + 1)),
            logprobs=tuple(-0.1 * (length + i) for i in range(length)),
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for _, length in candidates
    )
    outcomes = {1.0: Outcome.MATCH, None: Outcome.INFRASTRUCTURE}
    return ScoredGroup(
        rollout=RolloutGroup(
            group_id="",
            question=Question(question_id=name, database_id="shop", text="How many?", gold_sql=("SELECT 1",)),
            prompt_token_ids=(7, 8, 9),
            temperature=0.8,
            seed=0,
            completions=completions,
        ),
        scores=tuple(
            Score(outcome=outcomes.get(reward, Outcome.MISMATCH), reward=reward, seconds=0.0)
            for reward, _ in candidates
        ),
    )


def chosen(groups: list[ScoredGroup], **algorithm) -> list[PrefixGroup]:
    return training_groups(groups, AlgorithmSection(**({"kl_coefficient": 0.0} | algorithm)), MAX_NEW_TOKENS)


def weights_by_sequence(groups: list[PrefixGroup]) -> list[float]:
    return [branch.weight * len(branch.token_ids) for group in groups for branch in group.branches]


TWO_GROUPS = [scored_group([(1.0, 3), (0.0, 5), (0.1, 2)]), scored_group([(0.0, 4), (1.0, 6)])]
EVEN_GROUP = scored_group([(0.1, 3), (0.1, 4)])


def test_token_weights_are_one_over_all_tokens():
    branches = [branch for group in chosen(TWO_GROUPS, loss_aggregation="token") for branch in group.branches]
    assert [branch.weight for branch in branches] == [1 / 20] * 5
    assert sum(branch.weight * len(branch.token_ids) for branch in branches) == pytest.approx(1.0)


def test_sequence_weights_sum_to_the_same_share_for_each_sequence():
    assert weights_by_sequence(chosen(TWO_GROUPS, loss_aggregation="sequence")) == pytest.approx([1 / 5] * 5)


def test_dr_grpo_weights_are_constant_whatever_the_lengths():
    branches = [branch for group in chosen(TWO_GROUPS, loss_aggregation="dr_grpo") for branch in group.branches]
    assert [branch.weight for branch in branches] == [1 / (5 * MAX_NEW_TOKENS)] * 5


def test_a_branch_carries_what_was_sampled_and_its_advantage():
    (group,) = chosen([TWO_GROUPS[1]])
    completions = TWO_GROUPS[1].rollout.completions
    assert group.prefix_ids == (7, 8, 9)
    assert [branch.token_ids for branch in group.branches] == [one.token_ids for one in completions]
    assert [branch.engine_logprobs for branch in group.branches] == [one.logprobs for one in completions]
    assert [branch.advantage for branch in group.branches] == [-0.5, 0.5]


def test_advantages_are_scaled_as_the_configuration_says():
    (group,) = chosen([TWO_GROUPS[1]], advantage_scale="std")
    assert [branch.advantage for branch in group.branches] == [-1.0, 1.0]


@pytest.mark.parametrize("aggregation", ["token", "sequence", "dr_grpo"])
def test_without_kl_a_group_of_equal_rewards_is_left_out_and_does_not_count_in_the_weights(aggregation):
    with_even = chosen([EVEN_GROUP, *TWO_GROUPS], loss_aggregation=aggregation)
    assert with_even == chosen(TWO_GROUPS, loss_aggregation=aggregation)


def test_with_kl_a_group_of_equal_rewards_is_kept_with_advantage_zero():
    even, *others = chosen([EVEN_GROUP, *TWO_GROUPS], kl_coefficient=0.1, loss_aggregation="token")
    assert len(others) == 2
    assert [branch.advantage for branch in even.branches] == [0.0, 0.0]
    assert [branch.weight for branch in even.branches] == [1 / 27, 1 / 27]


def test_groups_without_a_match_are_left_out_only_on_demand():
    no_match = scored_group([(0.0, 3), (0.1, 4)])
    assert len(chosen([no_match, *TWO_GROUPS])) == 3
    assert chosen([no_match, *TWO_GROUPS], drop_groups_without_match=True) == chosen(TWO_GROUPS)
    assert chosen([no_match], drop_groups_without_match=True, kl_coefficient=0.1) == []


@pytest.mark.parametrize("kl_coefficient", [0.0, 0.1])
def test_nothing_to_train_on_gives_no_groups(kl_coefficient):
    assert chosen([], kl_coefficient=kl_coefficient) == []
    assert chosen([scored_group([(None, 3), (None, 2)])], kl_coefficient=kl_coefficient) == []
    assert chosen([scored_group([(1.0, 0), (0.0, 0)])], kl_coefficient=kl_coefficient) == []


def test_an_empty_completion_counts_in_the_groups_mean_but_has_nothing_to_train():
    (group,) = chosen([scored_group([(1.0, 4), (0.0, 0)])], loss_aggregation="sequence")
    assert [(branch.advantage, branch.weight) for branch in group.branches] == [(0.5, 1 / 4)]


candidates = st.lists(st.tuples(st.sampled_from([None, 0.0, 0.1, 1.0]), st.integers(0, 6)), min_size=1, max_size=6)
batches = st.lists(candidates, min_size=1, max_size=4)
algorithms = st.fixed_dictionaries(
    {
        "loss_aggregation": st.sampled_from(["token", "sequence", "dr_grpo"]),
        "advantage_scale": st.sampled_from(["none", "std", "batch"]),
        "kl_coefficient": st.sampled_from([0.0, 0.1]),
        "drop_groups_without_match": st.booleans(),
    }
)


@given(batch=batches, algorithm=algorithms)
def test_weights_sum_as_promised_whatever_is_left_out(batch, algorithm):
    groups = chosen([scored_group(group) for group in batch], **algorithm)
    by_sequence = weights_by_sequence(groups)
    num_tokens = sum(len(branch.token_ids) for group in groups for branch in group.branches)
    if groups:
        expected = num_tokens / (len(by_sequence) * MAX_NEW_TOKENS) if "dr_grpo" in algorithm.values() else 1.0
        assert sum(by_sequence) == pytest.approx(expected)
        assert all(group.branches for group in groups)


@given(batch=batches, algorithm=algorithms)
def test_candidates_without_a_reward_are_irrelevant(batch, algorithm):
    without = [[one for one in group if one[0] is not None] for group in batch]
    plain = chosen([scored_group(group) for group in batch], **algorithm)
    assert plain == chosen([scored_group(group) for group in without if group], **algorithm)


@given(data=st.data(), batch=batches, algorithm=algorithms)
def test_the_order_of_candidates_does_not_change_what_each_is_worth(data, batch, algorithm):
    shuffled = [data.draw(st.permutations(group)) for group in batch]

    def worth(batch: list) -> list:
        branches = [b for one in chosen([scored_group(group) for group in batch], **algorithm) for b in one.branches]
        return sorted((len(b.token_ids), round(b.advantage, 9), round(b.weight, 9)) for b in branches)

    assert worth(shuffled) == worth(batch)


def loss_of(groups: list[ScoredGroup], max_pack_tokens: int) -> float:
    """The loss of all packs of the groups, under a policy that gives token i of a completion the log-prob -i/10."""
    total = 0.0
    for pack in make_packs(chosen(groups), max_pack_tokens):
        logprob = -pack.target.to(torch.float64) / 10
        terms = grpo_loss(
            logprob=logprob,
            old_logprob=logprob + 0.1,
            engine_logprob=pack.engine_logprob,
            advantage=pack.advantage,
            weight=pack.weight,
            **SETTINGS,
        )
        total += terms.loss.item()
    return total


def test_the_loss_does_not_depend_on_how_the_groups_fall_into_micro_batches():
    assert [loss_of(TWO_GROUPS, budget) for budget in (4, 9, 15)] == pytest.approx([loss_of(TWO_GROUPS, 1000)] * 3)


def test_a_candidate_without_a_reward_does_not_change_the_loss_even_if_its_log_probabilities_are_nan():
    group = scored_group([(1.0, 3), (0.0, 5), (None, 4)])
    *completions, masked = group.rollout.completions
    broken = replace(masked, logprobs=(NAN,) * 4)
    with_broken = replace(group, rollout=replace(group.rollout, completions=(*completions, broken)))
    assert loss_of([with_broken], 1000) == loss_of([scored_group([(1.0, 3), (0.0, 5)])], 1000)
