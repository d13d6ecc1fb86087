"""The correction between engine and learner: by hand, with numbers missing, and the effective sample size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.learner.loss.importance import effective_sample_share, importance_correction, importance_weights

NAN, INF = math.nan, math.inf
unhurried = settings(deadline=None)  # the first call into torch can take longer than hypothesis allows


def correction(ratios: list[float], kind: str, cap: float = 2.0, sequence: list[int] | None = None):
    """Return the correction where the learner's probability is `ratios` times the engine's; NaN and inf as they are."""
    old = torch.full((len(ratios),), -3.0, dtype=torch.float64)
    engine = torch.tensor([-3.0 - math.log(r) if math.isfinite(r) else r for r in ratios], dtype=torch.float64)
    numbers = None if sequence is None else torch.tensor(sequence)
    return importance_correction(old, engine, kind, cap, numbers)


def test_truncate_by_hand():
    terms = correction([0.25, 1.0, 1.9, 5.0], "truncate")
    assert terms.weight.tolist() == pytest.approx([0.25, 1.0, 1.9, 2.0])
    assert terms.cut.tolist() == [False, False, False, True]
    assert terms.log_ratio.exp().tolist() == pytest.approx([0.25, 1.0, 1.9, 5.0])


def test_mask_sequence_by_hand():
    ratios = [1.5, 1.2, 3.0, 0.5, 1.5, 1.5, 0.6, 0.6]
    terms = correction(ratios, "mask_sequence", sequence=[0, 0, 1, 1, 2, 2, 3, 3])
    # products 1.8, 1.5, 2.25 (above 2) and 0.36 (below 1/2)
    assert terms.weight.tolist() == pytest.approx([1.8, 1.8, 1.5, 1.5, 0.0, 0.0, 0.0, 0.0])
    assert terms.cut.tolist() == [False] * 4 + [True] * 4


def test_none_leaves_every_token_alone_and_still_reports_the_ratios():
    terms = correction([0.25, 9.0, NAN], "none")
    assert terms.weight.tolist() == [1.0] * 3
    assert not terms.cut.any()
    assert terms.log_ratio.exp().tolist() == pytest.approx([0.25, 9.0, 1.0])


@pytest.mark.parametrize("missing", [NAN, -INF, INF])
def test_a_token_without_a_finite_number_has_the_ratio_one(missing):
    assert correction([missing, 3.0], "truncate").weight.tolist() == pytest.approx([1.0, 2.0])
    assert correction([missing, 1.5], "mask_sequence", sequence=[0, 0]).weight.tolist() == pytest.approx([1.5, 1.5])
    weights = importance_weights(torch.tensor([-1.0]), torch.tensor([missing]))
    assert weights.tolist() == [1.0]


def test_a_ratio_beyond_float32_is_capped_or_its_sequence_dropped():
    old, engine = torch.tensor([-0.1]), torch.tensor([-200.0])
    assert importance_correction(old, engine, "truncate", 2.0).weight.tolist() == [2.0]
    assert importance_correction(old, engine, "mask_sequence", 2.0, torch.tensor([0])).weight.tolist() == [0.0]


def test_mask_sequence_needs_the_sequences():
    with pytest.raises(ValueError, match="needs the sequence"):
        correction([1.0], "mask_sequence")


def test_the_mean_of_the_ratio_under_the_engine_is_one():
    """Average over all sequences of two tokens by the engine's probabilities: the whole ratio is unbiased."""
    learner = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    engine = torch.tensor([0.45, 0.33, 0.22], dtype=torch.float64)
    first, second = torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
    tokens, sequence = torch.stack([first, second], dim=1).flatten(), torch.arange(9).repeat_interleave(2)
    terms = importance_correction(learner.log()[tokens], engine.log()[tokens], "mask_sequence", 2.0, sequence)
    assert not terms.cut.any()
    mean = (terms.weight[::2] * engine[first] * engine[second]).sum()
    assert mean.item() == pytest.approx(1.0)


@unhurried
@given(ratios=st.lists(st.floats(0.05, 20), min_size=1, max_size=8), data=st.data())
def test_no_weight_exceeds_the_cap_and_a_dropped_sequence_is_dropped_whole(ratios, data):
    sequence = data.draw(st.lists(st.integers(0, 2), min_size=len(ratios), max_size=len(ratios)))
    for kind in ("truncate", "mask_sequence"):
        assert correction(ratios, kind, sequence=sequence).weight.max() <= 2.0 + 1e-12
    weights = correction(ratios, "mask_sequence", sequence=sequence).weight.tolist()
    for number in set(sequence):
        assert len({weight for weight, one in zip(weights, sequence, strict=True) if one == number}) == 1
    assert all(weight == 0 or weight >= 0.5 - 1e-12 for weight in weights)


# --- effective sample size


def test_effective_sample_share_by_hand():
    assert effective_sample_share(torch.zeros(4)) == 1.0
    assert effective_sample_share(torch.tensor([1.0, 3.0]).log()) == pytest.approx(16 / (2 * 10))
    assert effective_sample_share(torch.zeros(0)) == 0.0


def test_effective_sample_share_of_huge_ratios_is_a_number():
    assert effective_sample_share(torch.tensor([0.0, 0.0, 0.0, 100.0])) == pytest.approx(0.25)
    assert effective_sample_share(torch.tensor([-900.0, -900.0])) == pytest.approx(1.0)


@unhurried
@given(logs=st.lists(st.floats(-500, 500), min_size=1, max_size=9), shift=st.floats(-100, 100))
def test_effective_sample_share_lies_between_one_over_n_and_one_whatever_the_scale(logs, shift):
    share = effective_sample_share(torch.tensor(logs, dtype=torch.float64))
    assert 1 / len(logs) - 1e-12 <= share <= 1 + 1e-12
    shifted = effective_sample_share(torch.tensor(logs, dtype=torch.float64) + shift)
    assert shifted == pytest.approx(share, rel=1e-9)
