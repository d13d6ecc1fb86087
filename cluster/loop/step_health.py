"""Checks each step's report: an odd value gives a warning, one that nothing explains stops the run (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from floe.cluster.messages import StepReport
from floe.configs.errors import UserError
from floe.configs.sections.health_section import HealthSection


class UnhealthyStep(UserError):
    """Engine and learner do not compute the same policy."""


class StepHealth:
    """Compares the mismatch between the engine's log-probabilities and the learner's with the limits of `health`."""

    def __init__(self, limits: HealthSection, note: Callable[[str], object]) -> None:
        self._limits = limits
        self._note = note

    def check(self, report: StepReport) -> None:
        """Note what is above a warning's limit. Raises UnhealthyStep above a stop's limit."""
        if report.trained_tokens == 0:
            return
        limits, mean = self._limits, report.logprob_mismatch_mean
        # Negated, so that a NaN stops too.
        if not mean <= limits.mismatch_stop_nats:
            raise UnhealthyStep(
                f"step {report.step}: engine and learner differ by {mean:.3g} nats per token on average, "
                f"health.mismatch_stop_nats is {limits.mismatch_stop_nats:g}: they do not compute the same model, "
                "or its updates are far too large; see the run's first steps in metrics.jsonl, and lower "
                "learner.learning_rate or use another model"
            )
        if not report.logprob_mismatch_max <= limits.largest_mismatch_stop_nats:
            raise UnhealthyStep(
                f"step {report.step}: engine and learner differ by {report.logprob_mismatch_max:.3g} nats on one "
                f"token, health.largest_mismatch_stop_nats is {limits.largest_mismatch_stop_nats:g}: the learner finds "
                "impossible what the engine sampled; use another model, or report this one"
            )
        if not report.effective_sample_size >= limits.sample_size_stop_share:
            raise UnhealthyStep(
                f"step {report.step}: the importance weights leave {100 * report.effective_sample_size:.1f} % of the "
                f"tokens, health.sample_size_stop_share is {100 * limits.sample_size_stop_share:g} %: the rollouts are "
                "of another policy than the one that learns from them; lower rollout.max_staleness or "
                "learner.learning_rate"
            )
        for warning in self._warnings(report):
            self._note(f"warning: step {report.step}: {warning}")

    def _warnings(self, report: StepReport) -> Iterator[str]:
        limits = self._limits
        if report.logprob_mismatch_mean > limits.mismatch_warn_nats:
            yield (
                f"engine and learner differ by {report.logprob_mismatch_mean:.3g} nats per token on average "
                f"(health.mismatch_warn_nats is {limits.mismatch_warn_nats:g})"
            )
        if report.logprob_mismatch_max > limits.largest_mismatch_warn_nats:
            yield (
                f"engine and learner differ by {report.logprob_mismatch_max:.3g} nats on one token "
                f"(health.largest_mismatch_warn_nats is {limits.largest_mismatch_warn_nats:g})"
            )
        if report.effective_sample_size < limits.sample_size_warn_share:
            yield (
                f"the importance weights leave {100 * report.effective_sample_size:.1f} % of the tokens "
                f"(health.sample_size_warn_share is {100 * limits.sample_size_warn_share:g} %)"
            )
