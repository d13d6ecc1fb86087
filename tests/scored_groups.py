"""Small scored groups and step reports for tests of what reads them."""

import math

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup, StepReport


def scored_group(
    outcomes: list[tuple[Outcome, float | None]], question_id: str = "q1", text: str = "SELECT 1", message: str = ""
) -> ScoredGroup:
    """One candidate per outcome; candidate i has i + 1 tokens of logprob -0.5, and the first one is truncated."""
    completions = tuple(
        Completion(
            text=text,
            token_ids=tuple(range(i + 1)),
            logprobs=(-0.5,) * (i + 1),
            truncated=i == 0,
            oldest_adapter_version=1,
            newest_adapter_version=2,
        )
        for i in range(len(outcomes))
    )
    question = Question(question_id=question_id, database_id="shop", text="How many?", gold_sql=("SELECT 1",))
    return ScoredGroup(
        rollout=RolloutGroup(
            group_id="", question=question, prompt_token_ids=(1, 2, 3), temperature=0.8, seed=0, completions=completions
        ),
        scores=tuple(
            Score(outcome=outcome, reward=reward, seconds=0.25, message=message, sql=text if reward else None)
            for outcome, reward in outcomes
        ),
    )


def step_report(**changes) -> StepReport:
    fields = {
        "step": 3,
        "loss": 0.5,
        "kl": None,
        "grad_norm": 1.5,
        "learning_rate": 3e-5,
        "ratio_clip_share": 0.01,
        "importance_truncated_share": 0.0,
        "logprob_mismatch_mean": 0.001,
        "logprob_mismatch_max": math.nan,
        "effective_sample_size": 0.99,
        "num_nan_logprobs": 0,
        "trained_groups": 1,
        "trained_tokens": 40,
    }
    return StepReport(**(fields | changes))
