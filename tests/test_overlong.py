"""Over-long completions: the penalty by hand, and the effect on rewards, advantages and weights."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup
from floe.configs.schema import AlgorithmSection
from floe.learner.loss.overlong import shaped_rewards, soft_overlong_penalty
from floe.learner.loss.training_groups import training_groups

LIMIT = 10
unhurried = settings(deadline=None)


def scored_group(candidates: list[tuple[float | None, int]]) -> ScoredGroup:
    """One candidate per (reward, number of tokens); those of LIMIT tokens are truncated, 1.0 is a match."""
    completions = tuple(
        Completion(
            text="SELECT 1",
            token_ids=tuple(range(1, length + 1)),
            logprobs=(-0.5,) * length,
            truncated=length == LIMIT,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for _, length in candidates
    )
    outcomes = {1.0: Outcome.MATCH, None: Outcome.INFRASTRUCTURE}
    rewards = [reward for reward, _ in candidates]
    return ScoredGroup(
        rollout=RolloutGroup(
            group_id="",
            question=Question(question_id="q", database_id="shop", text="How many?", gold_sql=("SELECT 1",)),
            prompt_token_ids=(7, 8, 9),
            temperature=0.8,
            seed=0,
            completions=completions,
        ),
        scores=tuple(
            Score(outcome=outcomes.get(reward, Outcome.MISMATCH), reward=reward, seconds=0.0) for reward in rewards
        ),
    )


def algorithm(overlong: str, **changes) -> AlgorithmSection:
    fields = {"overlong": overlong, "overlong_buffer_tokens": 4, "kl_coefficient": 0.0}
    return AlgorithmSection(**(fields | changes))


@pytest.mark.parametrize(
    ("num_tokens", "penalty"),
    [(0, 0.0), (6, 0.0), (7, -0.25), (8, -0.5), (9, -0.75), (10, -1.0), (11, -1.0), (50, -1.0)],
)
def test_the_soft_penalty_by_hand(num_tokens, penalty):
    assert soft_overlong_penalty(num_tokens, max_new_tokens=10, buffer_tokens=4) == penalty


@pytest.mark.parametrize("buffer_tokens", [0, -1, 11])
def test_a_buffer_outside_the_limit_is_refused(buffer_tokens):
    with pytest.raises(ValueError, match="between 1 and the limit of 10"):
        soft_overlong_penalty(3, max_new_tokens=10, buffer_tokens=buffer_tokens)


@given(lengths=st.lists(st.integers(0, 200), min_size=2, max_size=9), limit=st.integers(1, 100), data=st.data())
def test_the_penalty_falls_with_the_length_from_zero_to_minus_one(lengths, limit, data):
    buffer_tokens = data.draw(st.integers(1, limit))
    penalties = [soft_overlong_penalty(length, limit, buffer_tokens) for length in sorted(lengths)]
    assert penalties == sorted(penalties, reverse=True)
    assert all(-1 <= penalty <= 0 for penalty in penalties)


def test_the_rewards_of_each_option():
    group = scored_group([(1.0, 3), (1.0, LIMIT), (0.1, 8), (None, LIMIT), (None, 3)])
    rewards = {option: shaped_rewards(group, algorithm(option), LIMIT) for option in ("keep", "mask", "punish")}
    assert rewards["keep"] == [1.0, 1.0, 0.1, None, None]
    assert rewards["mask"] == [1.0, None, 0.1, None, None]
    assert rewards["punish"] == [1.0, 0.0, pytest.approx(-0.4), None, None]


def branches_of(groups: list[ScoredGroup], settings: AlgorithmSection) -> list[tuple[int, float, float]]:
    chosen = training_groups(groups, settings, LIMIT)
    return [(len(b.token_ids), b.advantage, b.weight) for group in chosen for b in group.branches]


def test_the_penalty_comes_before_the_advantages():
    group = scored_group([(1.0, 3), (1.0, LIMIT)])
    assert branches_of([group], algorithm("keep")) == []  # equal rewards
    expected = [(3, 0.5, pytest.approx(1 / 13)), (LIMIT, -0.5, pytest.approx(1 / 13))]
    assert branches_of([group], algorithm("punish")) == expected


def test_a_truncated_match_that_is_masked_is_no_match_of_its_group():
    group = scored_group([(1.0, LIMIT), (0.1, 3), (0.0, 4)])
    assert branches_of([group], algorithm("mask", drop_groups_without_match=True)) == []
    assert len(branches_of([group], algorithm("mask"))) == 2


@pytest.mark.parametrize("kl_coefficient", [0.0, 0.1])
def test_a_group_of_truncated_completions_leaves_nothing_to_train_on(kl_coefficient):
    group = scored_group([(1.0, LIMIT), (0.0, LIMIT)])
    assert training_groups([group], algorithm("mask", kl_coefficient=kl_coefficient), LIMIT) == []


candidates = st.lists(st.tuples(st.sampled_from([None, 0.0, 0.1, 1.0]), st.integers(0, LIMIT)), min_size=1, max_size=6)
batches = st.lists(candidates, min_size=1, max_size=4)
options = st.fixed_dictionaries(
    {
        "loss_aggregation": st.sampled_from(["token", "sequence", "dr_grpo"]),
        "advantage_scale": st.sampled_from(["none", "std", "batch"]),
        "kl_coefficient": st.sampled_from([0.0, 0.1]),
        "drop_groups_without_match": st.booleans(),
    }
)


@unhurried
@given(batch=batches, options=options)
def test_masked_completions_are_irrelevant(batch, options):
    settings = algorithm("mask", **options)
    without = [[one for one in group if one[1] < LIMIT] for group in batch]
    masked = branches_of([scored_group(group) for group in batch], settings)
    assert masked == branches_of([scored_group(group) for group in without if group], settings)


@unhurried
@given(batch=batches, options=options, data=st.data())
def test_the_order_of_candidates_does_not_change_what_a_punished_one_is_worth(batch, options, data):
    settings = algorithm("punish", **options)
    shuffled = [data.draw(st.permutations(group)) for group in batch]

    def worth(batch: list) -> list:
        found = branches_of([scored_group(group) for group in batch], settings)
        return sorted((length, round(advantage, 9), round(weight, 9)) for length, advantage, weight in found)

    assert worth(shuffled) == worth(batch)


@unhurried
@given(batch=batches, options=options)
def test_kept_completions_are_as_without_the_option(batch, options):
    groups = [scored_group(group) for group in batch]
    plain = branches_of(groups, AlgorithmSection(**options))
    assert branches_of(groups, algorithm("keep", **options)) == plain
    none_truncated = [
        replace(
            g, rollout=replace(g.rollout, completions=tuple(replace(c, truncated=False) for c in g.rollout.completions))
        )
        for g in groups
    ]
    assert branches_of(none_truncated, algorithm("mask", **options)) == plain
