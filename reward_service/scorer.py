"""Scores the candidates of one question at a time; what a reward worker wraps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from cluster.messages import Candidate, Outcome, RewardWorkerStats, Score, ScoreRequest
from configs.schema import RewardSection
from reward_service.designs.registry import reward_design
from reward_service.executor_process import ExecutorProcess, ExecutorUnavailable
from reward_service.executor_settings import ExecutorSettings
from reward_service.extraction import extract_sql
from reward_service.group_run import GroupRun
from reward_service.statement import rejection_reason
from reward_service.verdict import Verdict, message_of


class Scorer:
    """Owns one executor process, where all SQL runs; calls from several threads take turns."""

    def __init__(self, databases_dir: Path, settings: RewardSection, wall_limit_s: float | None = None) -> None:
        """`wall_limit_s` replaces the safety net's default, 10 time limits and 30 s. Raises ValueError."""
        self._design = reward_design(settings.design)
        self._skips_empty_golds = settings.empty_gold == "skip"
        self._empty_gold_weight = settings.empty_gold_weight if settings.empty_gold == "down_weight" else 1.0
        self._settings = ExecutorSettings.from_section(databases_dir, settings)
        self._process = ExecutorProcess(self._settings, wall_limit_s or self._settings.wall_limit_s)
        self._lock = threading.Lock()
        self._num_scores = self._num_cached = self._num_folded = 0

    def score(self, request: ScoreRequest) -> tuple[Score, ...]:
        """Exactly one score per candidate, in order, whatever the candidates do.

        When no gold of the question could be run, every candidate ends as that, also one without SQL: a group
        of which only the bad answers carry a reward would teach something false. Raises ValueError for a
        candidate that is neither SQL nor completion, or both.
        """
        texts = [_sql_of(candidate) for candidate in request.candidates]
        verdicts = {sql: _verdict_without_execution(sql) for sql in dict.fromkeys(texts)}
        statements = [sql for sql, verdict in verdicts.items() if verdict is None and sql is not None]
        with self._lock:
            failure, match_weight = self._run(request, statements, verdicts)
            self._num_scores += len(texts)
            self._num_folded += len(texts) - len(verdicts)
        scores = []
        for candidate, sql in zip(request.candidates, texts, strict=True):
            verdict = failure or verdicts[sql]
            assert verdict is not None
            scores.append(self._score(candidate, sql, verdict, match_weight))
        return tuple(scores)

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[tuple[Score, ...]]:
        return [self.score(request) for request in requests]

    def _run(
        self, request: ScoreRequest, statements: list[str], verdicts: dict[str | None, Verdict | None]
    ) -> tuple[Verdict | None, float]:
        """Fills in the verdicts of `statements`; returns what failed the whole group, if anything did, and the weight
        of a match."""
        if not request.candidates:
            return None, 1.0
        if not request.gold_sql:
            text = f"question {request.question_id!r} has no gold SQL: complete the data"
            return Verdict(Outcome.GOLD_FAILED, text), 1.0
        run = GroupRun(self._process, request.database_id, request.gold_sql, statements, self._settings.hard_limit_s)
        fault = None
        try:
            run.run()
        except ExecutorUnavailable as error:
            fault = Verdict(Outcome.INFRASTRUCTURE, message_of(error))
            if not run.verdicts:
                return fault, 1.0
        for index, sql in enumerate(statements):
            verdicts[sql] = run.verdicts.get(index, fault)
        self._num_cached += run.num_cached
        if not run.has_empty_golds:
            return run.failure, 1.0
        if self._skips_empty_golds:
            return Verdict(Outcome.GOLD_FAILED, "every gold returns no rows, and reward.empty_gold is skip"), 1.0
        return run.failure, self._empty_gold_weight

    def _score(self, candidate: Candidate, sql: str | None, verdict: Verdict, match_weight: float) -> Score:
        reward = self._design(verdict.outcome, candidate.completion)
        if reward is not None and verdict.outcome is Outcome.MATCH:
            reward *= match_weight
        return Score(
            outcome=verdict.outcome,
            reward=reward,
            seconds=verdict.seconds,
            message=verdict.message,
            sql=sql,
        )

    def ping(self) -> bool:
        """True as soon as no request is running: the worker is alive."""
        with self._lock:
            return True

    def stats(self) -> RewardWorkerStats:
        """Counts since this scorer was made."""
        with self._lock:
            return RewardWorkerStats(
                num_scores=self._num_scores,
                num_cached=self._num_cached,
                num_folded=self._num_folded,
                num_children=self._process.num_forks,
                num_lost_children=self._process.num_lost,
            )

    @property
    def executor_pid(self) -> int:
        """Process id of the present executor child; 0 when there is none."""
        return self._process.child_pid

    def close(self) -> None:
        """Ends the executor; a later request would start another."""
        with self._lock:
            self._process.close()


def _sql_of(candidate: Candidate) -> str | None:
    if (candidate.sql is None) == (candidate.completion is None):
        raise ValueError("a candidate needs exactly one of sql and completion: correct the caller")
    return extract_sql(candidate.completion) if candidate.completion is not None else candidate.sql


def _verdict_without_execution(sql: str | None) -> Verdict | None:
    if sql is None:
        return Verdict(Outcome.NO_SQL, "the completion holds no SQL")
    reason = rejection_reason(sql)
    return Verdict(Outcome.REJECTED, reason) if reason else None
