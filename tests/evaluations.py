"""Evaluations made by hand, for tests of what reads them."""

from __future__ import annotations

from floe.cluster.evaluation.saved_evaluation import (
    HARNESS_VERSION,
    Evaluation,
    EvaluationIdentity,
    GreedyAnswer,
    QuestionRecord,
)
from floe.cluster.messages import Outcome

IDENTITY = EvaluationIdentity(
    harness_version=HARNESS_VERSION,
    prompt_digest="p",
    questions_digest="q",
    databases_digest="d",
    comparator="bird, 5 s",
    num_samples=4,
    temperature=0.8,
    max_new_tokens=64,
    model="tiny in bfloat16",
    adapter=None,
    seed=1,
)


def record(question_id: str, is_right: bool, num_correct: int = 0, **changes) -> QuestionRecord:
    greedy = GreedyAnswer(
        outcome=Outcome.MATCH if is_right else Outcome.MISMATCH,
        sql=f"SELECT '{question_id}'",
        is_bird_match=is_right,
        is_spider_match=is_right,
        soft_f1=1.0 if is_right else 0.5,
        r_ves=None,
    )
    fields = {
        "question_id": question_id,
        "database_id": "shop",
        "text": f"Which {question_id}?",
        "hardness": "easy",
        "greedy": greedy,
        "num_correct": num_correct,
        "num_executes": 4,
        "exact_vote_correct": num_correct > 2,
        "soft_vote_correct": num_correct > 1,
    }
    return QuestionRecord(**fields | changes)


def evaluation(*records: QuestionRecord, identity: EvaluationIdentity = IDENTITY, **changes) -> Evaluation:
    fields = {"identity": identity, "num_asked": len(records), "has_suite": False, "records": records}
    return Evaluation(**fields | changes)
