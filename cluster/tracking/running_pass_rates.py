"""Pass rate of each question so far in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from floe.actors.questions.pass_rates import PASS_RATES_FILE, PassRate, write_pass_rates
from floe.cluster.messages import Outcome, ScoredGroup


def with_groups(rates: Mapping[str, PassRate], groups: Sequence[ScoredGroup]) -> dict[str, PassRate]:
    """Return `rates` by question id with the candidates of `groups` added, except those without a verdict."""
    result = dict(rates)
    for group in groups:
        outcomes = [score.outcome for score in group.scores if score.outcome.says_correctness]
        if outcomes:
            question_id = group.rollout.question.question_id
            found = PassRate(num_samples=len(outcomes), num_correct=outcomes.count(Outcome.MATCH))
            result[question_id] = result[question_id] + found if question_id in result else found
    return result


class RunningPassRates:
    """The file `pass_rates.json` of a run's folder, in the form of a prepared folder's, after every step."""

    def __init__(self, run_dir: Path, rates: Mapping[str, PassRate]) -> None:
        """Start with `rates` of the steps before, in a run that continues."""
        self._path = run_dir / PASS_RATES_FILE
        self._rates = dict(rates)

    def add(self, groups: Sequence[ScoredGroup]) -> None:
        self._rates = with_groups(self._rates, groups)
        write_pass_rates(self._path, self._rates)
