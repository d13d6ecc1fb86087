"""The guard's detectors on made series: what each finds, what it says, and that healthy series stay silent."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.health.detectors import FIGURES_OF, detectors_of
from floe.cluster.health.figures import NAMES, figures_of
from floe.cluster.health.policy_detectors import median_slope
from floe.configs.sections.health_section import DetectorName, HealthSection
from tests.health_series import HEALTHY, found_in, series

# A series that only this detector finds, what its sentence says, and the limits that it names.
ILL = {
    "equal_rewards": (
        {"zero_variance_share": 0.97, "correct_share": 0.0},
        "97.0 % of the groups",
        ["equal_rewards_share"],
    ),
    "executes_not_right": (
        {"executes_share": lambda step: min(1.0, 0.3 + 0.04 * step)},
        "rose from 48.0 % in steps 1 to 8 to 80.0 % in steps 9 to 16",
        ["executes_rise_share", "right_flat_share"],
    ),
    "constant_rewards": ({"constant_reward_share": 0.6}, "60.0 % of the reward", ["constant_reward_share"]),
    "empty_rewards": ({"empty_reward_share": 0.9}, "90.0 % of the reward", ["empty_reward_share"]),
    "entropy_low": ({"entropy_estimate": 0.004}, "0.004 nats per token", ["entropy_min_nats"]),
    "entropy_falling": (
        {"entropy_estimate": lambda step: 0.5 if step < 9 else 0.05},
        "the entropy fell from 0.5 nats per token",
        ["entropy_fall_share"],
    ),
    "truncation": ({"truncated_share": 0.7}, "70.0 % of the completions", ["truncated_limit_share"]),
    "kl_rising": ({"kl": lambda step: 0.2 * step}, "rose by 0.2 nats per token and step", ["kl_slope_nats"]),
    "length_drift": (
        {"mean_completion_tokens": lambda step: 10.0 if step < 9 else 100.0},
        "from 10.0 tokens in steps 1 to 8",
        ["length_drift_factor"],
    ),
    "accuracy_falling": (
        {
            "eval_greedy": lambda step: None if step % 4 else 0.6 if step == 4 else 0.2,
            "eval_num_questions": 200.0,
        },
        "fell from 60.0 % (version 4) to 20.0 % (version 8) and 20.0 % (version 12)",
        ["accuracy_fall_share"],
    ),
}
NUMBERS = st.one_of(st.none(), st.just(math.nan), st.floats(), st.integers(), st.booleans(), st.text(max_size=3))


def test_every_detector_of_the_configuration_is_tried_here_and_says_what_it_needs():
    assert set(ILL) == set(get_args(DetectorName)) == set(detectors_of(HealthSection())) == set(FIGURES_OF)
    assert {name for names in FIGURES_OF.values() for name in names} <= set(NAMES)


@pytest.mark.parametrize("name", ILL)
def test_an_ill_series_is_found_by_its_detector_with_cause_figures_window_and_limits(name):
    changes, said, limits = ILL[name]
    first, *more = found_in(series(16, **changes))
    assert {one.detector for one in (first, *more)} == {name}
    assert said in first.text and all(f"health.{limit}" in first.text for limit in limits)
    assert "steps" in first.text or "version" in first.text
    assert "\n" not in first.text and not first.text.endswith(".")
    assert first.step >= 8


@pytest.mark.parametrize("name", ILL)
def test_without_its_figures_a_detector_says_nothing(name):
    changes, _, _ = ILL[name]
    assert found_in(series(40, **changes | dict.fromkeys(FIGURES_OF[name]))) == []


@pytest.mark.parametrize("name", sorted(set(ILL) - {"accuracy_falling", "entropy_falling"}))
def test_one_odd_step_says_nothing(name):
    changes, _, _ = ILL[name]
    odd = {figure: value(16) if callable(value) else value for figure, value in changes.items()}
    healthy = {figure: HEALTHY[figure] for figure in odd}
    assert found_in(series(40, **{f: lambda step, f=f: odd[f] if step == 20 else healthy[f] for f in odd})) == []


@pytest.mark.parametrize(("every", "steps"), [(2, [8]), (3, [])])
def test_a_window_of_which_less_than_half_is_known_says_nothing(every, steps):
    found = found_in(series(9, truncated_share=lambda step: None if step % every else 0.9))
    assert [one.step for one in found] == steps


def test_one_step_of_huge_kl_is_not_a_slope():
    assert found_in(series(20, kl=lambda step: 1e6 if step == 12 else 0.01)) == []
    assert median_slope([(1, 0.0), (2, 9e9), (3, 0.2), (4, 0.3)]) < 1


def test_an_accuracy_that_falls_within_its_noise_or_once_only_says_nothing():
    once = {"eval_greedy": lambda step: 0.2 if step == 8 else 0.6 - step / 1000, "eval_num_questions": 200.0}
    assert found_in(series(20, **once)) == []
    noisy = {"eval_greedy": lambda step: 0.5 if step == 1 else 0.35, "eval_num_questions": 20.0}
    assert found_in(series(20, **noisy)) == []
    assert found_in(series(20, **noisy | {"eval_num_questions": 400.0}))


def test_rising_execution_is_sound_where_right_answers_rise_too():
    rising = {"executes_share": lambda step: 0.3 + 0.04 * step, "correct_share": lambda step: 0.1 + 0.02 * step}
    assert found_in(series(16, **rising)) == []


def test_a_policy_that_answers_all_right_is_told_to_end():
    (found, *_) = found_in(series(8, zero_variance_share=1.0, correct_share=1.0))
    assert "nearly all answers are right" in found.text


def test_limits_are_settings():
    assert found_in(series(16, truncated_share=0.7), truncated_limit_share=0.8) == []
    assert found_in(series(3, truncated_share=0.7), window_steps=3)[0].step == 3


@given(
    st.fixed_dictionaries(
        {
            "reward_mean": st.floats(-10, 10), "correct_share": st.floats(0, 1), "executes_share": st.floats(0, 1),
            "zero_variance_share": st.floats(0, 0.949), "truncated_share": st.floats(0, 0.499),
            "entropy_estimate": st.floats(0.011, 20), "kl": st.floats(0, 1e6),
            "mean_completion_tokens": st.floats(1, 1e6),
            "constant_reward_share": st.floats(0, 0.499), "empty_reward_share": st.floats(0, 0.799),
            "eval_greedy": st.floats(0, 1), "eval_num_questions": st.floats(1, 1e6),
        }
    ),
    st.integers(2, 12),
)  # fmt: skip
def test_a_series_that_stays_within_its_limits_and_does_not_move_has_no_finding(values, window_steps):
    assert found_in(series(3 * window_steps, **values), window_steps=window_steps) == []


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), NUMBERS), max_size=12), st.integers(2, 4))
def test_whatever_a_record_holds_the_guard_takes_it_and_a_sentence_has_no_odd_number(records, window_steps):
    found = found_in([figures_of(i, one) for i, one in enumerate(records, 1)], window_steps=window_steps)
    assert all("nan" not in one.text and "inf " not in one.text for one in found)
