"""Measures a policy on given questions: greedy and sampled answers, judged by the reward service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.random_streams import stream_seed
from floe.cluster.evaluation.before_after_table import PolicyAnswers
from floe.cluster.loop.group_collection import Profiles, Rewards, Rollouts, collect
from floe.cluster.messages import GroupRequest, Outcome, Question, ScoredGroup
from floe.cluster.tracking.step_metrics import entropy_estimate
from floe.configs.schema import RunConfig

CONTROL_QUESTIONS = 20  # questions of the tune split, on which the control's temperature is found
CONTROL_SAMPLES = 4
CONTROL_TEMPERATURE_SHARES = (0.25, 0.5, 0.75, 1.0)  # multiples of the evaluation's temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A policy's answers: a group per question, in their order; `greedy` is None for a policy that was only sampled."""

    name: str
    temperature: float  # of the samples
    num_samples: int
    sampled: tuple[ScoredGroup, ...]
    greedy: tuple[ScoredGroup, ...] | None

    def judged(self) -> list[tuple[ScoredGroup, ScoredGroup]]:
        """Return samples and greedy answer (the samples again without one) of questions whose verdicts are complete."""
        pairs = zip(self.sampled, self.greedy or self.sampled, strict=True)
        return [pair for pair in pairs if all(_missing_verdict(group) is None for group in pair)]

    def without_verdict(self) -> tuple[str, ...]:
        """Return question and reason of each group that lacks a verdict."""
        groups = (*self.sampled, *(self.greedy or ()))
        return tuple(reason for group in groups if (reason := _missing_verdict(group)) is not None)

    def policy(self) -> PolicyAnswers:
        """Return the policy's row of the table."""
        judged = self.judged()
        return PolicyAnswers(
            name=self.name,
            temperature=self.temperature,
            question_ids=tuple(sampled.rollout.question.question_id for sampled, _ in judged),
            greedy_correct=tuple(num_correct(one) == 1 for _, one in judged) if self.greedy else None,
            greedy_executes=tuple(num_executes(one) == 1 for _, one in judged) if self.greedy else None,
            num_samples=self.num_samples,
            sample_num_correct=tuple(num_correct(sampled) for sampled, _ in judged),
            sample_num_executes=tuple(num_executes(sampled) for sampled, _ in judged),
            entropy=entropy_estimate(self.sampled),
            without_verdict=self.without_verdict(),
        )


def ignore_answers(num_answered: int, num_asked: int) -> None:
    """Ignore the count, which nobody watches."""


@dataclass(frozen=True, slots=True)
class Harness:
    """One prompt, one sampler, one judge for every policy that is compared."""

    config: RunConfig
    encoder: PromptEncoder
    rollouts: Rollouts
    rewards: Rewards
    num_timings: int = 0  # timings of each greedy match, for R-VES
    note_answers: Callable[[int, int], object] = ignore_answers  # number of answers so far, and of all
    answer_start: str | None = None  # put in front of each completion; None: what ends the encoder's prompts

    def answers(
        self, name: str, questions: Sequence[Question], version: int | None, temperature: float, *, greedy: bool = True
    ) -> Answered:
        """Return greedy (unless left out) and sampled answers with the profiles of their results."""
        num_samples = self.config.evaluation.num_samples
        requests = self.requests(questions, temperature, greedy=greedy)
        groups = self._collect(requests, version, with_profiles=True)
        return Answered(
            name=name,
            temperature=temperature,
            num_samples=num_samples,
            sampled=groups[: len(questions)],
            greedy=groups[len(questions) :] if greedy else None,
        )

    def greedy_alone(self, name: str, questions: Sequence[Question], version: int | None) -> Answered:
        """Return greedy answers alone, with the profiles of their results; they count as the one sample too."""
        groups = self._collect(self._greedy_requests(questions), version, with_profiles=True)
        return Answered(name=name, temperature=0.0, num_samples=1, sampled=groups, greedy=None)

    def greedy(self, questions: Sequence[Question], version: int | None) -> tuple[ScoredGroup, ...]:
        """Return one group of one candidate per question, in their order."""
        return self._collect(self._greedy_requests(questions), version)

    def sampled(
        self, questions: Sequence[Question], version: int | None, temperature: float, purpose: str
    ) -> tuple[ScoredGroup, ...]:
        """Return one group of `evaluation.num_samples` per question; `purpose` names its random streams.

        Prompts are those of training.
        """
        num_samples = self.config.evaluation.num_samples
        encode = self.encoder.training_prompt
        requests = [self._request(one, num_samples, temperature, purpose, encode) for one in questions]
        return self._collect(requests, version)

    def entropy(self, questions: Sequence[Question], version: int | None, temperature: float) -> float:
        """Return nats per sampled token."""
        requests = [self._request(question, CONTROL_SAMPLES, temperature, "entropy") for question in questions]
        return entropy_estimate(self._collect(requests, version))

    def requests(self, questions: Sequence[Question], temperature: float, *, greedy: bool = True) -> list[GroupRequest]:
        """Return what `answers` asks for: the samples of every question, then the greedy answers."""
        num_samples = self.config.evaluation.num_samples
        sampled = [self._request(q, num_samples, temperature, "evaluation") for q in questions]
        return sampled + (self._greedy_requests(questions) if greedy else [])

    def _request(
        self,
        question: Question,
        num_samples: int,
        temperature: float,
        purpose: str,
        encode: Callable[[Question], tuple[int, ...]] | None = None,
    ) -> GroupRequest:
        return GroupRequest(
            group_id=f"{purpose}: {question.question_id}",
            question=question,
            prompt_token_ids=(encode or self.encoder.prompt)(question),
            num_samples=num_samples,
            temperature=temperature,
            max_new_tokens=self.config.rollout.max_new_tokens,
            seed=stream_seed(self.config.run.seed, purpose, question.question_id),
        )

    def _greedy_requests(self, questions: Sequence[Question]) -> list[GroupRequest]:
        return [self._request(question, 1, 0.0, "greedy") for question in questions]

    def _collect(
        self, requests: Sequence[GroupRequest], version: int | None, *, with_profiles: bool = False
    ) -> tuple[ScoredGroup, ...]:
        profiles = Profiles(num_timings=self.num_timings) if with_profiles else None
        num_asked = sum(request.num_samples for request in requests)
        return collect(
            self.rollouts,
            self.rewards,
            requests,
            version,
            self.encoder.answer_start if self.answer_start is None else self.answer_start,
            profiles,
            correctness_only=True,
            note_answers=lambda num_answered: self.note_answers(num_answered, num_asked),
        ).groups


def temperature_of_same_entropy(harness: Harness, questions: Sequence[Question], version: int, target: float) -> float:
    """Return the temperature at which policy `version` has `target` nats per token, interpolated linearly.

    A control: it equalises the mean entropy per token over these questions, and nothing else of the distribution.
    """
    highest = harness.config.evaluation.temperature
    temperatures = [share * highest for share in CONTROL_TEMPERATURE_SHARES]
    entropies = [harness.entropy(questions[:CONTROL_QUESTIONS], version, t) for t in temperatures]
    return float(np.interp(target, np.maximum.accumulate(entropies), temperatures))


def _missing_verdict(group: ScoredGroup) -> str | None:
    missing = next((score for score in group.scores if not score.outcome.carries_reward), None)
    return None if missing is None else f"{group.rollout.question.question_id}: {missing.outcome}: {missing.message}"


def num_correct(group: ScoredGroup) -> int:
    return sum(score.outcome is Outcome.MATCH for score in group.scores)


def num_executes(group: ScoredGroup) -> int:
    return sum(score.outcome.executes for score in group.scores)
