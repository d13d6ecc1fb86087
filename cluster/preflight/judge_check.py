"""Checks that the reward's judge answers, where the design asks one."""

from __future__ import annotations

import time
from contextlib import closing

from floe.cluster.preflight.finding import Check, Finding, fault, ok
from floe.configs.schema import RunConfig

SQL = ("SELECT 1", "SELECT 2")  # a right query, to be graded


def judge_checks(config: RunConfig) -> tuple[tuple[str, Check], ...]:
    """Return the judge's check; None where no judge is asked."""
    return (("judge", lambda: judge_answers(config)),) if config.reward.asks_judge else ()


def judge_answers(config: RunConfig) -> Finding:
    """Ask one question, with the time limit and the retries of a run. Raises UserError for a key that is missing."""
    from floe.reward_service.judge.judge import Judge, JudgeUnavailable
    from floe.reward_service.judge.judge_protocol import JudgedQuery

    query = JudgedQuery.of("Which number comes first?", "", SQL[:1], SQL[1])
    started_s = time.perf_counter()
    with closing(Judge(config.reward)) as judge:
        try:
            (score,) = judge.scores([query])
        except JudgeUnavailable as error:
            return fault(
                str(error),
                "start the endpoint and correct reward.judge_url and reward.judge_model, or set "
                "reward.reasoning_judge_weight=0",
            )
    took_s = time.perf_counter() - started_s
    return ok(f"{config.reward.judge_model} at {config.reward.judge_url} grades a query ({score:g}) in {took_s:.1f} s")
