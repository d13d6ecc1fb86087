"""The posterior of a pass rate: closed forms against numeric integration, fading, and what questions share."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.posterior import PRIOR_SAMPLES, Beta, Seen, posteriors, with_step

COUNTS = st.floats(0.5, 60)
BETAS = st.builds(Beta, COUNTS, COUNTS)
DISCOUNT = 0.9
NODES, WEIGHTS = np.polynomial.legendre.leggauss(800)


def expected(belief: Beta, value) -> float:
    """Integrate over p = sin^2 t, in which the density has no pole for counts of at least one half."""
    t = (NODES + 1) * math.pi / 4
    p = np.sin(t) ** 2
    density = p ** (belief.right - 0.5) * (1 - p) ** (belief.wrong - 0.5) * WEIGHTS
    return float((density * value(p)).sum() / density.sum())


@given(belief=BETAS)
def test_mean_and_expected_variance_are_those_of_numeric_integration(belief):
    assert belief.mean == pytest.approx(expected(belief, lambda p: p), rel=1e-5)
    assert belief.variance_of_reward == pytest.approx(expected(belief, lambda p: p * (1 - p)), rel=1e-5)


@given(belief=BETAS, num_right=st.integers(0, 20), num_wrong=st.integers(0, 20))
def test_a_moment_is_that_of_numeric_integration(belief, num_right, num_wrong):
    found = expected(belief, lambda p: p**num_right * (1 - p) ** num_wrong)
    assert belief.moment(num_right, num_wrong) == pytest.approx(found, rel=1e-5)


@given(belief=BETAS, size=st.integers(1, 64))
def test_the_chance_of_a_mixed_group_is_that_of_numeric_integration(belief, size):
    found = expected(belief, lambda p: 1 - p**size - (1 - p) ** size)
    assert belief.mixed_chance(size) == pytest.approx(found, rel=1e-5, abs=1e-9)


def counts_of(steps: dict[int, list[Seen]]):
    counts = {}
    for step, seen in steps.items():
        counts = with_step(counts, step, seen, DISCOUNT)
    return counts


def believed(names, counts, measured=None, through_step=0, max_measured_samples=8):
    return posteriors(
        names, counts, measured or {}, through_step=through_step, discount=DISCOUNT,
        max_measured_samples=max_measured_samples,
    )  # fmt: skip


def own(belief: Beta, mean: float) -> tuple[float, float]:
    """Return the counts without those of the shared prior."""
    return belief.right - PRIOR_SAMPLES * mean, belief.wrong - PRIOR_SAMPLES * (1 - mean)


def test_older_candidates_count_less_with_each_step():
    counts = counts_of({1: [Seen("a", 4, 12)], 3: [Seen("a", 10, 6)]})
    beliefs = believed(["a"], counts, through_step=4)
    right, wrong = DISCOUNT**3 * 4 + DISCOUNT * 10, DISCOUNT**3 * 12 + DISCOUNT * 6
    mean = (1 + right) / (2 + right + wrong)
    assert own(beliefs["a"], mean) == pytest.approx((right, wrong))


def test_without_a_discount_all_candidates_count_the_same():
    counts = {}
    for step in (1, 5):
        counts = with_step(counts, step, [Seen("a", 3, 1)], 1.0)
    assert (counts["a"].right, counts["a"].wrong) == (6, 2)


def test_a_group_without_a_verdict_adds_nothing_but_was_asked():
    counts = counts_of({1: [Seen("a", 0, 0)]})
    assert (counts["a"].right, counts["a"].wrong) == (0, 0)
    assert believed(["a"], counts)["a"] == Beta(1, 1)


def test_a_measured_rate_counts_as_so_many_candidates_at_most_and_fades():
    measured = {"a": PassRate(num_samples=100, num_correct=25), "b": PassRate(num_samples=2, num_correct=1)}
    first = believed(["a", "b"], {}, measured)
    right, wrong = 8 * 0.25 + 2 * 0.5, 8 * 0.75 + 2 * 0.5
    mean = (1 + right) / (2 + right + wrong)
    assert own(first["a"], mean) == pytest.approx((2, 6))
    assert own(first["b"], mean) == pytest.approx((1, 1))
    later = believed(["a"], {}, measured, through_step=5)["a"]
    assert later.right + later.wrong - PRIOR_SAMPLES == pytest.approx(8 * DISCOUNT**5)


def test_questions_that_nobody_asked_share_a_prior_that_follows_the_others():
    nothing_known = believed(["a", "b"], {})
    assert nothing_known["a"] == nothing_known["b"] == Beta(1, 1)
    counts = counts_of({1: [Seen("a", 0, 16)]})
    assert believed(["a", "b"], counts, through_step=1)["b"].mean == pytest.approx(1 / 18)
    assert believed(["b"], counts, through_step=1)["b"].mean == 0.5  # "a" is none of these questions


SEEN = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 16), st.integers(0, 16)), max_size=3, unique_by=lambda s: s[0]
)


@given(steps=st.lists(SEEN, min_size=1, max_size=8), cut=st.integers(0, 8))
def test_counts_are_the_same_to_the_bit_wherever_they_were_kept_on_the_way(steps, cut):
    by_step = {number: [Seen(*one) for one in seen] for number, seen in enumerate(steps, start=1)}
    kept = counts_of({step: seen for step, seen in by_step.items() if step <= cut})
    for step, seen in by_step.items():
        if step > cut:
            kept = with_step(kept, step, seen, DISCOUNT)
    assert kept == counts_of(by_step)
