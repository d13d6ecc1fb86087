"""What a run believes of its questions' pass rates at each step, from exactly the steps that it may know of then."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from floe.actors.questions.posterior import Beta, FadedCount, Seen, posteriors, with_step
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.messages import Outcome, ScoredGroup
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.schema import RunConfig

EVIDENCE_FILE = "pass_rate_evidence.json"  # in a checkpoint


class RunPosterior:
    """Beliefs of step k from the groups of the steps up to k - 1 - `rollout.max_staleness`, whatever has come since.

    A later group may be there by then or not, which depends on the machine's load. One thread generates steps in their
    order, and notes each before it asks for the next; another may save.
    """

    def __init__(self, config: RunConfig, sets: QuestionSets) -> None:
        self._question_ids = [one.question_id for one in sets.train]
        self._measured = sets.pass_rates
        self._data = config.data
        self._design = config.reward.design
        self._max_staleness = config.rollout.max_staleness
        self._lock = threading.Lock()
        self._counts: dict[str, FadedCount] = {}  # of the steps up to `_through_step`
        self._through_step = 0
        self._later: dict[int, tuple[Seen, ...]] = {}  # by step, in order
        self._of_step: tuple[int, Mapping[str, Beta]] | None = None

    def before(self, step: int) -> Mapping[str, Beta]:
        """Return the beliefs by question id that step `step` is asked with."""
        if self._of_step is not None and self._of_step[0] == step:
            return self._of_step[1]
        through_step = max(0, step - 1 - self._max_staleness)
        with self._lock:
            self._fold(through_step - self._max_staleness)
            counts = self._counts_through(through_step)
        beliefs = posteriors(
            self._question_ids,
            counts,
            self._measured,
            through_step=through_step,
            discount=self._data.evidence_discount,
            max_measured_samples=self._data.max_measured_samples,
        )
        self._of_step = step, beliefs
        return beliefs

    def note(self, step: int, groups: Sequence[ScoredGroup]) -> None:
        """Note what a step's groups showed. Raises UserError for a reward design that runs no candidate."""
        seen = tuple(self._seen(step, group) for group in groups)
        with self._lock:
            self._later[step] = seen

    def num_never_drawn(self) -> int:
        """Return the training questions that no step so far has asked."""
        with self._lock:
            drawn = {*self._counts, *(one.question_id for seen in self._later.values() for one in seen)}
        return sum(one not in drawn for one in self._question_ids)

    def save(self, folder: Path, step: int) -> None:
        """Write what a run that goes on after `step` has to know, and nothing of later steps."""
        with self._lock:
            assert self._through_step <= max(0, step - self._max_staleness), "the next step would know too much"
            state = {
                "through_step": self._through_step,
                "counts": {name: [one.right, one.wrong, one.step] for name, one in self._counts.items()},
                "later": [
                    [number, [[one.question_id, one.num_right, one.num_wrong] for one in seen]]
                    for number, seen in self._later.items()
                    if number <= step
                ],
            }
        (folder / EVIDENCE_FILE).write_text(json.dumps(state), encoding="ascii")

    def restore(self, folder: Path) -> None:
        """Go on from what a checkpoint holds. Raises UserError where it holds nothing of the kind."""
        try:
            state = parsed_json((folder / EVIDENCE_FILE).read_text(encoding="ascii"))
        except FileNotFoundError:
            raise UserError(
                f"The checkpoint {folder} has no {EVIDENCE_FILE}, but the run draws by the pass rates of its own "
                "rollouts: it was written by another version, start anew without --resume."
            ) from None
        with self._lock:
            self._through_step = state["through_step"]
            self._counts = {name: FadedCount(*values) for name, values in state["counts"].items()}
            self._later = {number: tuple(Seen(*one) for one in seen) for number, seen in state["later"]}
        self._of_step = None

    def _seen(self, step: int, group: ScoredGroup) -> Seen:
        outcomes = [score.outcome for score in group.scores]
        if Outcome.NOT_EXECUTED in outcomes:
            raise UserError(
                f"step {step}: reward.design {self._design} runs no candidate, so that no pass rate is known, which "
                "data.sampler=posterior and rollout.min_group_size need: use another design, or leave them out."
            )
        num_right = outcomes.count(Outcome.MATCH)
        question_id = group.rollout.question.question_id
        return Seen(question_id, num_right, sum(one.says_correctness for one in outcomes) - num_right)

    def _fold(self, through_step: int) -> None:
        """Keep the steps up to `through_step` as counts alone: no later checkpoint needs them one by one."""
        if through_step > self._through_step:
            self._counts = self._counts_through(through_step)
            self._later = {step: seen for step, seen in self._later.items() if step > through_step}
            self._through_step = through_step

    def _counts_through(self, through_step: int) -> dict[str, FadedCount]:
        counts = self._counts
        for step in range(self._through_step + 1, through_step + 1):
            counts = with_step(counts, step, self._later[step], self._data.evidence_discount)
        return counts


def posterior_of_run(config: RunConfig, sets: QuestionSets, checkpoint: Path | None = None) -> RunPosterior | None:
    """Return the posterior of a run that keeps one, after the steps of the checkpoint. Raises UserError."""
    if not config.keeps_posterior:
        return None
    posterior = RunPosterior(config, sets)
    if checkpoint is not None:
        posterior.restore(checkpoint)
    return posterior
