"""Has answers run and judged: sampled ones by the engine first, given ones as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.random_streams import stream_seed
from floe.cluster.loop.group_collection import Profiles, Rewards, Rollouts, collect
from floe.cluster.messages import Candidate, GroupRequest, Outcome, Question, Score, ScoreRequest
from floe.cluster.traces.given_file import GivenAnswers
from floe.cluster.traces.records import AskedQuestion, Sample
from floe.configs.schema import RunConfig

QUESTIONS_AT_ONCE = 64  # an interruption loses at most so many
CANDIDATES_OF_REQUEST = 64


def sampled(
    rollouts: Rollouts,
    rewards: Rewards,
    encoder: PromptEncoder,
    config: RunConfig,
    questions: Sequence[tuple[Question, bool]],
    version: int | None,
) -> Iterator[AskedQuestion]:
    """Yield the judged answers of each question, with whether it is held back, as they come, some at a time.

    The streams derive from (the warm start's seed, the question) alone.
    """
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        chunk = questions[start : start + QUESTIONS_AT_ONCE]
        requests = [_request(encoder, config, question, is_held) for question, is_held in chunk]
        collected = collect(
            rollouts,
            rewards,
            requests,
            version,
            encoder.answer_start,
            Profiles(num_timings=0),
            correctness_only=True,
        )
        for (question, is_held), group in zip(chunk, collected.groups, strict=True):
            samples = [
                _sample(completion.text, completion.truncated, score)
                for completion, score in zip(group.rollout.completions, group.scores, strict=True)
            ]
            yield AskedQuestion(question=question, is_held_back=is_held, samples=tuple(samples))


def judged(
    rewards: Rewards, encoder: PromptEncoder, config: RunConfig, given: Sequence[GivenAnswers]
) -> Iterator[AskedQuestion]:
    """Yield each question with the verdicts on its answers; one longer than the run's completions counts as cut off."""
    answer_start, most = encoder.answer_start, config.rollout.max_new_tokens
    for start in range(0, len(given), QUESTIONS_AT_ONCE):
        chunk = given[start : start + QUESTIONS_AT_ONCE]
        tickets = [[rewards.submit(request) for request in _score_requests(one, answer_start)] for one in chunk]
        for one, parts in zip(chunk, tickets, strict=True):
            scores = [score for ticket in parts for score in rewards.result(ticket)]
            samples = [
                _sample(text, len(encoder.completion(text)) > most, score)
                for text, score in zip(one.completions, scores, strict=True)
            ]
            yield AskedQuestion(question=one.question, is_held_back=one.is_held_back, samples=tuple(samples))


def _request(encoder: PromptEncoder, config: RunConfig, question: Question, is_held_back: bool) -> GroupRequest:
    settings = config.warm_start
    purpose = "traces of tune" if is_held_back else "traces"
    return GroupRequest(
        group_id=f"{purpose}: {question.question_id}",
        question=question,
        prompt_token_ids=(encoder.prompt if is_held_back else encoder.training_prompt)(question),
        num_samples=settings.trace_samples,
        temperature=settings.trace_temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=stream_seed(config.warm_start_seed, purpose, question.question_id),
    )


def _score_requests(one: GivenAnswers, answer_start: str) -> Iterator[ScoreRequest]:
    question = one.question
    for start in range(0, len(one.completions), CANDIDATES_OF_REQUEST):
        some = one.completions[start : start + CANDIDATES_OF_REQUEST]
        yield ScoreRequest(
            question_id=question.question_id,
            database_id=question.database_id,
            gold_sql=question.gold_sql,
            candidates=tuple(Candidate(completion=answer_start + text) for text in some),
            question=question.text,
            evidence=question.evidence,
            correctness_only=True,
            with_profiles=True,
            semantics=question.semantics,
        )


def _sample(text: str, truncated: bool, score: Score) -> Sample:
    return Sample(
        completion=text,
        truncated=truncated,
        outcome=score.outcome,
        sql=score.sql,
        num_rows=None if score.profile is None else score.profile.num_rows,
    )


def lacks_verdict(asked: AskedQuestion) -> bool:
    """Return whether an answer's verdict is missing for a fault that another attempt may not have."""
    return any(one.outcome is Outcome.INFRASTRUCTURE for one in asked.samples)
