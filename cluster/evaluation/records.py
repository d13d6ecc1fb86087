"""Makes the records of an evaluation from scored answers, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.evaluation.asked_questions import Asked
from floe.cluster.evaluation.harness import Answered
from floe.cluster.evaluation.saved_evaluation import (
    HARNESS_VERSION,
    Evaluation,
    EvaluationIdentity,
    GreedyAnswer,
    QuestionRecord,
)
from floe.cluster.evaluation.sql_hardness import spider_hardness
from floe.cluster.evaluation.voting import exact_vote, soft_vote
from floe.cluster.messages import Outcome, Question, Score, ScoredGroup
from floe.configs.schema import RunConfig
from floe.reward_service.sandbox.databases import suite_paths


def question_records(answered: Answered, *, is_timed: bool) -> tuple[QuestionRecord, ...]:
    """Return records of the questions that have all verdicts, in their order."""
    return tuple(_record(greedy, sampled, is_timed) for sampled, greedy in answered.judged())


def record_without_answer(question: Question, *, is_timed: bool) -> QuestionRecord:
    """Make the record of a question that could not be asked, which counts as wrong in every way."""
    return QuestionRecord(
        question_id=question.question_id,
        database_id=question.database_id,
        text=question.text,
        hardness=hardness(question),
        greedy=_greedy_answer(Score(outcome=Outcome.NO_SQL, reward=None, seconds=0.0), is_timed),
        num_correct=0,
        num_executes=0,
        exact_vote_correct=False,
        soft_vote_correct=False,
        source=question.source,
    )


def hardness(question: Question) -> str:
    """Return the data set's own word for it, otherwise Spider's level of the first gold."""
    return question.difficulty or spider_hardness(question.gold_sql[0])


def evaluation_of(config: RunConfig, asked: Asked, answered: Answered, adapter: Path | None) -> Evaluation:
    """Return the evaluation, with its records in the order of the questions, those that did not fit included."""
    is_timed = config.evaluation.num_timings > 0
    known = {record.question_id: record for record in question_records(answered, is_timed=is_timed)}
    for question in asked.too_long:
        known[question.question_id] = record_without_answer(question, is_timed=is_timed)
    name = None if adapter is None else str(adapter)
    return Evaluation(
        identity=evaluation_identity(config, asked.encoder, asked.databases_dir, asked.questions, name),
        num_asked=len(asked.questions),
        has_suite=config.has_suite,
        clock=config.reward.clock,
        records=tuple(known[one.question_id] for one in asked.questions if one.question_id in known),
        left_out=answered.without_verdict(),
    )


def evaluation_identity(
    config: RunConfig,
    encoder: PromptEncoder,
    databases_dir: Path,
    questions: Sequence[Question],
    adapter: str | None,
) -> EvaluationIdentity:
    """Return the identity, from the names and sizes of the database files alone."""
    reward = config.reward
    suite = " with a suite" if reward.suite and not config.data.sources else ""
    comparator = f"{config.semantics_in_words}{suite}, {reward.time_limit_s:g} s"
    asked = [[one.question_id, one.database_id, one.text, one.evidence, *one.gold_sql] for one in questions]
    return EvaluationIdentity(
        harness_version=HARNESS_VERSION,
        prompt_digest=_digest(str(encoder.encoded(question).token_ids) for question in questions),
        questions_digest=_digest(map(json.dumps, asked)),
        databases_digest=_digest(_database_files(config, databases_dir, questions)),
        comparator=comparator + (f", tolerance {reward.float_tolerance:g}" if reward.float_tolerance else ""),
        num_samples=config.evaluation.num_samples,
        temperature=config.evaluation.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        model=f"{config.model.path} in {config.rollout.dtype}",
        adapter=adapter,
        seed=config.run.seed,
    )


def r_ves(time_ratio: float | None) -> float:
    """Return the root of R-VES's reward for the gold's time over the prediction's (mini_dev, evaluation_ves.py).

    The source is bird-bench/mini_dev. The value is 0 without a ratio, which a wrong answer lacks, and at most 1.118.
    """
    if time_ratio is None:
        return 0.0
    reward = 1.25 if time_ratio >= 2 else 1.0 if time_ratio >= 1 else 0.75 if time_ratio >= 0.5 else 0.5
    root: float = (reward if time_ratio >= 0.25 else 0.25) ** 0.5
    return root


def _record(greedy: ScoredGroup, sampled: ScoredGroup, is_timed: bool) -> QuestionRecord:
    question = sampled.rollout.question
    ballots = [score.profile if score.outcome.executes else None for score in sampled.scores]
    winners = exact_vote(ballots), soft_vote(ballots)
    exact, soft = (winner is not None and sampled.scores[winner].outcome is Outcome.MATCH for winner in winners)
    return QuestionRecord(
        question_id=question.question_id,
        database_id=question.database_id,
        text=question.text,
        hardness=hardness(question),
        greedy=_greedy_answer(greedy.scores[0], is_timed),
        num_correct=sum(score.outcome is Outcome.MATCH for score in sampled.scores),
        num_executes=sum(score.outcome.executes for score in sampled.scores),
        exact_vote_correct=exact,
        soft_vote_correct=soft,
        source=question.source,
    )


def _greedy_answer(score: Score, is_timed: bool) -> GreedyAnswer:
    profile = score.profile
    is_unmeasured = profile is None and score.outcome.executes
    return GreedyAnswer(
        outcome=score.outcome,
        sql=score.sql,
        is_bird_match=profile is not None and profile.is_bird_match,
        is_spider_match=profile is not None and profile.is_spider_match,
        soft_f1=None if is_unmeasured else 0.0 if profile is None else profile.soft_f1,
        r_ves=r_ves(None if profile is None else profile.time_ratio) if is_timed else None,
    )


def _database_files(config: RunConfig, databases_dir: Path, questions: Sequence[Question]) -> Iterable[str]:
    semantics = {question.database_id: question.semantics or config.reward.semantics for question in questions}
    for database_id in sorted(semantics):
        # Other semantics use the main database alone.
        paths = suite_paths(databases_dir, config.reward.suite, database_id)
        for path in paths if semantics[database_id] == "spider" else paths[:1]:
            yield f"{database_id} {path.name} {path.stat().st_size}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
