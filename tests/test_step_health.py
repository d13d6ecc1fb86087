"""A step's report on the run's health: nothing, a warning, or its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from floe.cluster.loop.step_health import StepHealth, UnhealthyStep
from floe.cluster.messages import StepReport
from floe.configs.sections.health_section import HealthSection

SOUND = StepReport(
    step=7, loss=0.1, kl=None, kl_k1=None, kl_k2=None, grad_norm=1.0, learning_rate=1e-4, ratio_clip_share=0.0,
    importance_truncated_share=0.0, logprob_mismatch_mean=0.02, logprob_mismatch_max=0.5, effective_sample_size=0.99,
    num_nan_logprobs=0, trained_groups=2, trained_tokens=100,
)  # fmt: skip


def notes_of(report: StepReport, **limits: float) -> list[str]:
    notes: list[str] = []
    StepHealth(HealthSection(**limits), notes.append).check(report)
    return notes


def test_a_sound_step_says_nothing():
    assert notes_of(SOUND) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"logprob_mismatch_mean": 0.3}, "0.3 nats per token on average"),
        ({"logprob_mismatch_max": 12.0}, "12 nats on one token"),
        ({"effective_sample_size": 0.4}, "leave 40.0 % of the tokens"),
    ],
)
def test_what_is_odd_is_said_with_its_step_and_setting(changes, said):
    (note,) = notes_of(replace(SOUND, **changes))
    assert note.startswith("warning: step 7: ") and said in note and "health." in note


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"logprob_mismatch_mean": 11.6}, "health.mismatch_stop_nats"),
        ({"logprob_mismatch_mean": float("nan")}, "health.mismatch_stop_nats"),
        ({"logprob_mismatch_max": 40.0}, "health.largest_mismatch_stop_nats"),
        ({"effective_sample_size": 0.01}, "health.sample_size_stop_share"),
        ({"effective_sample_size": float("nan")}, "health.sample_size_stop_share"),
    ],
)
def test_what_is_past_explaining_stops_the_run(changes, setting):
    with pytest.raises(UnhealthyStep, match=setting) as stopped:
        notes_of(replace(SOUND, **changes))
    assert "step 7" in str(stopped.value)


def test_a_step_that_trained_on_nothing_has_no_mismatch():
    assert notes_of(replace(SOUND, trained_tokens=0, effective_sample_size=0.0)) == []


def test_limits_are_settings():
    assert notes_of(replace(SOUND, logprob_mismatch_mean=1.5), mismatch_stop_nats=2.0, mismatch_warn_nats=1.8) == []


@pytest.mark.parametrize(
    "limits",
    [{"mismatch_warn_nats": 2.0}, {"largest_mismatch_warn_nats": 31.0}, {"sample_size_warn_share": 0.01}],
    ids=["mismatch", "largest", "sample size"],
)
def test_a_warning_that_comes_after_the_stop_is_refused(limits):
    with pytest.raises(ValueError, match="would stop before it warns"):
        HealthSection(**limits)
