"""How a policy does on given questions: greedy and sampled answers, judged by the reward service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.data.random_streams import stream_seed
from actors.prompt_encoder import PromptEncoder
from actors.prompts import prefill
from cluster.messages import GroupRequest, Outcome, Question, ScoredGroup
from cluster.reports.evaluation_table import PolicyAnswers
from cluster.reports.step_metrics import entropy_estimate
from cluster.scoring import Rewards, Rollouts, collect
from configs.schema import RunConfig

CONTROL_QUESTIONS = 20  # of the tune split, on which the control's temperature is found
CONTROL_SAMPLES = 4
CONTROL_TEMPERATURE_SHARES = (0.25, 0.5, 0.75, 1.0)  # of the evaluation's temperature


@dataclass(frozen=True, slots=True)
class Harness:
    """One prompt, one sampler, one judge for every policy that is compared."""

    config: RunConfig
    encoder: PromptEncoder
    rollouts: Rollouts
    rewards: Rewards

    def answers(
        self, name: str, questions: Sequence[Question], version: int | None, temperature: float, *, greedy: bool = True
    ) -> PolicyAnswers:
        """Greedy (unless left out) and sampled answers; questions without a verdict for all of them are left out."""
        num_samples = self.config.evaluation.num_samples
        requests = [self._request(q, num_samples, temperature, "evaluation") for q in questions]
        if greedy:
            requests += [self._request(question, 1, 0.0, "greedy") for question in questions]
        groups = self._collect(requests, version)
        sampled, greedily = groups[: len(questions)], groups[len(questions) :]
        kept = [
            i for i in range(len(questions)) if _has_verdicts(sampled[i]) and (not greedy or _has_verdicts(greedily[i]))
        ]
        return PolicyAnswers(
            name=name,
            temperature=temperature,
            question_ids=tuple(questions[i].question_id for i in kept),
            greedy_correct=tuple(_num_correct(greedily[i]) == 1 for i in kept) if greedy else None,
            greedy_executes=tuple(_num_executes(greedily[i]) == 1 for i in kept) if greedy else None,
            num_samples=num_samples,
            sample_num_correct=tuple(_num_correct(sampled[i]) for i in kept),
            sample_num_executes=tuple(_num_executes(sampled[i]) for i in kept),
            entropy=entropy_estimate(sampled),
            without_verdict=tuple(reason for group in groups if (reason := _missing_verdict(group)) is not None),
        )

    def entropy(self, questions: Sequence[Question], version: int | None, temperature: float) -> float:
        """Nats per sampled token."""
        requests = [self._request(question, CONTROL_SAMPLES, temperature, "entropy") for question in questions]
        return entropy_estimate(self._collect(requests, version))

    def _request(self, question: Question, num_samples: int, temperature: float, purpose: str) -> GroupRequest:
        return GroupRequest(
            question=question,
            prompt_token_ids=self.encoder.prompt(question),
            num_samples=num_samples,
            temperature=temperature,
            max_new_tokens=self.config.rollout.max_new_tokens,
            seed=stream_seed(self.config.run.seed, purpose, question.question_id),
        )

    def _collect(self, requests: Sequence[GroupRequest], version: int | None) -> tuple[ScoredGroup, ...]:
        return collect(self.rollouts, self.rewards, requests, version, prefill(self.config.prompt.style)).groups


def temperature_of_same_entropy(harness: Harness, questions: Sequence[Question], version: int, target: float) -> float:
    """The temperature at which policy `version` has `target` nats per token, between the measured ones linearly.

    The control for sharpening: a policy that learned nothing but to be surer of itself does no better than the
    warm start sampled at this temperature.
    """
    highest = harness.config.evaluation.temperature
    temperatures = [share * highest for share in CONTROL_TEMPERATURE_SHARES]
    entropies = [harness.entropy(questions[:CONTROL_QUESTIONS], version, t) for t in temperatures]
    return float(np.interp(target, np.maximum.accumulate(entropies), temperatures))


def _has_verdicts(group: ScoredGroup) -> bool:
    return _missing_verdict(group) is None


def _missing_verdict(group: ScoredGroup) -> str | None:
    missing = next((score for score in group.scores if not score.outcome.carries_reward), None)
    return None if missing is None else f"{group.rollout.question.question_id}: {missing.outcome}: {missing.message}"


def _num_correct(group: ScoredGroup) -> int:
    return sum(score.outcome is Outcome.MATCH for score in group.scores)


def _num_executes(group: ScoredGroup) -> int:
    return sum(score.outcome.executes for score in group.scores)
