"""Scores the candidates of one question at a time; a reward worker wraps it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from floe.cluster.contained.process import ContainedProcess, ProcessUnavailable
from floe.cluster.contained.runs import run_all
from floe.cluster.messages import Candidate, Outcome, ResultProfile, RewardWorkerStats, Score, ScoreRequest
from floe.configs.schema import PromptSection
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.arctic import Arctic
from floe.reward_service.designs.interface import Design, JudgedCandidate, JudgedGroup, Reward
from floe.reward_service.designs.registry import make_design
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.group_run import GroupRun
from floe.reward_service.sql_text.own_extraction import NO_SQL, Extraction, NoAnswer, extraction_of
from floe.reward_service.sql_text.statement import rejection_reason
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable
from floe.reward_service.verdict import Verdict, message_of

CORRECTNESS = Design(rewards=Arctic())


class Scorer:
    """Owns one executor process, where all SQL runs; calls from several threads take turns."""

    def __init__(
        self,
        databases_dir: Path,
        settings: RewardSection,
        wall_limit_s: float | None = None,
        *,
        plugin_folder: Path | None = None,
        prompt: PromptSection | None = None,
    ) -> None:
        """Set up the executor; `wall_limit_s` replaces the safety net of 10 time limits and 30 s. Raises UserError.

        `plugin_folder` is where the module of a plug-in is looked for when it is not installed. The style of `prompt`
        says how SQL is taken from a completion; None: in floe's own way.
        """
        self._extraction = extraction_of(prompt or PromptSection(), plugin_folder)
        self._design = make_design(settings, databases_dir, plugin_folder)
        self._skips_empty_golds = settings.empty_gold == "skip"
        self._empty_gold_weight = settings.empty_gold_weight if settings.empty_gold == "down_weight" else 1.0
        self._settings = ExecutorSettings.from_section(databases_dir, settings)
        self._process = ContainedProcess(self._settings, wall_limit_s or self._settings.wall_limit_s)
        self._lock = threading.Lock()
        self._num_scores = self._num_cached = self._num_cached_golds = self._num_folded = 0

    def score(self, request: ScoreRequest) -> tuple[Score, ...]:
        """Return exactly one score per candidate, in order, whatever the candidates do.

        When no gold of the question could be run, every candidate gets that outcome, also one without SQL: a group in
        which only the bad answers carry a reward would teach something false. Raises ValueError for a candidate that
        has neither SQL nor completion, or both.
        """
        return self.score_all([request])[0]

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[tuple[Score, ...]]:
        """Return `score` of each; several at once keep the executor from waiting between them."""
        groups = [
            _Group(
                request,
                self._settings.hard_limit_s,
                CORRECTNESS if request.correctness_only else self._design,
                self._extraction,
            )
            for request in requests
        ]
        with self._lock:
            runs = [group.run for group in groups if group.run is not None]
            fault = self._run(runs)
            self._num_scores += sum(len(group.texts) for group in groups)
            self._num_folded += sum(len(group.texts) - len(group.verdicts) for group in groups)
            self._num_cached += sum(run.num_cached for run in runs)
            self._num_cached_golds += sum(run.num_cached_golds for run in runs)
        return [self._scores(group, fault) for group in groups]

    def _run(self, runs: Sequence[GroupRun]) -> Verdict | None:
        """Run them; return the fault that kept some from being over, None where there is none."""
        try:
            run_all(self._process, runs)
        except ProcessUnavailable as error:
            return Verdict(Outcome.INFRASTRUCTURE, message_of(error))
        return None

    def _scores(self, group: _Group, fault: Verdict | None) -> tuple[Score, ...]:
        failure, match_weight = group.failure, 1.0
        if group.run is not None:
            if not group.run.is_over and not group.run.verdicts:
                failure = fault
            elif group.run.has_empty_golds and self._skips_empty_golds:
                failure = Verdict(Outcome.GOLD_FAILED, "every gold returns no rows, and reward.empty_gold is skip")
            else:
                failure = group.run.failure
                match_weight = self._empty_gold_weight if group.run.has_empty_golds else 1.0
            group.fill(fault)
        verdicts = [failure or group.verdict_of(sql) for sql in group.texts]
        rewards, design_s = group.rewards(verdicts)
        if isinstance(rewards, Verdict):  # the design couldn't judge the group
            failure = rewards
            verdicts, rewards = [failure] * len(verdicts), [None] * len(verdicts)
        return tuple(
            Score(
                outcome=verdict.outcome,
                reward=None if reward is None else _weighted(reward.value, verdict.outcome, match_weight),
                seconds=verdict.seconds,
                message=note or verdict.message or ("" if reward is None else reward.note),
                sql=sql,
                profile=None if failure is not None else group.profiles.get(sql),
                terms=None if reward is None else dict(reward.terms) or None,
                term_weights=None if reward is None else dict(reward.weights) or None,
                design_s=design_s,
                is_empty=verdict.is_empty,
            )
            for sql, note, verdict, reward in zip(group.texts, group.notes, verdicts, rewards, strict=True)
        )

    def ping(self) -> bool:
        """Return True as soon as no request runs and SQL could: the worker is alive. Raises ProcessUnavailable."""
        with self._lock:
            if self._design.executes:
                self._process.start()
            return True

    def stats(self) -> RewardWorkerStats:
        """Return counts since this scorer was made."""
        with self._lock:
            return RewardWorkerStats(
                num_scores=self._num_scores,
                num_cached=self._num_cached,
                num_cached_golds=self._num_cached_golds,
                num_folded=self._num_folded,
                num_children=self._process.num_forks,
                num_lost_children=self._process.num_lost,
                num_unread=0 if self._design.reader is None else self._design.reader.num_faults,
            )

    @property
    def executor_pid(self) -> int:
        """Process id of the present executor child; 0 when there is none."""
        return self._process.child_pid

    def abandon(self) -> None:
        """End the executor under a request that another thread waits for; its candidates become infrastructure."""
        self._process.close()

    def close(self) -> None:
        """End the executor; a later request would start another."""
        with self._lock:
            self._process.close()
            self._design.close()


class _Group:
    """A request, its distinct SQL, and what is known of each; `run` is None when there is nothing to run."""

    def __init__(self, request: ScoreRequest, hard_limit_s: float, design: Design, extraction: Extraction) -> None:
        self.request = request
        self._design = design
        found = [_sql_of(candidate, extraction) for candidate in request.candidates]
        self.texts = [sql for sql, _ in found]
        self.notes = [note for _, note in found]  # why the style's own extraction took nothing; mostly empty
        self.verdicts = {sql: _verdict_without_execution(sql) for sql in dict.fromkeys(self.texts)}
        self.profiles: dict[str | None, ResultProfile] = {}
        self._statements = [sql for sql, verdict in self.verdicts.items() if verdict is None and sql is not None]
        self.failure: Verdict | None = None
        self.run: GroupRun | None = None
        if request.candidates and not request.gold_sql:
            text = f"question {request.question_id!r} has no gold SQL: complete the data"
            self.failure = Verdict(Outcome.GOLD_FAILED, text)
        elif request.candidates and design.executes:
            self.run = GroupRun(request, self._statements, hard_limit_s, design.semantics or request.semantics or None)

    def fill(self, fault: Verdict | None) -> None:
        """Enter the results of the run; `fault` where it failed."""
        assert self.run is not None
        for index, sql in enumerate(self._statements):
            self.verdicts[sql] = self.run.verdicts.get(index, fault)
            if index in self.run.profiles:
                self.profiles[sql] = self.run.profiles[index]

    def verdict_of(self, sql: str | None) -> Verdict:
        """Return the verdict, after `fill` or of a design that runs nothing."""
        verdict = self.verdicts[sql]
        if verdict is None:
            assert not self._design.executes
            return Verdict(Outcome.NOT_EXECUTED)
        return verdict

    def rewards(self, verdicts: Sequence[Verdict]) -> tuple[list[Reward | None] | Verdict, float]:
        """Return a reward for each candidate, None where the verdict carries none; or why the design could judge no
        candidate.

        The second value is the design's wall time in seconds for each candidate that it judged.
        """
        judged = [number for number, verdict in enumerate(verdicts) if verdict.outcome.carries_reward]
        found: list[Reward | None] = [None] * len(verdicts)
        if not judged:
            return found, 0.0
        started_s = time.perf_counter()
        try:
            values = self._design.rewards(self._judged_group(judged, verdicts))
        except GroupUnscorable as error:
            return Verdict(Outcome.INFRASTRUCTURE, message_of(error)), 0.0
        except GoldUnusable as error:
            return Verdict(Outcome.GOLD_FAILED, message_of(error)), 0.0
        for number, value in zip(judged, values, strict=True):
            found[number] = value
        return found, (time.perf_counter() - started_s) / len(judged)

    def _judged_group(self, judged: Sequence[int], verdicts: Sequence[Verdict]) -> JudgedGroup:
        request = self.request
        return JudgedGroup(
            question=request.question,
            evidence=request.evidence,
            database_id=request.database_id,
            gold_sql=request.gold_sql,
            candidates=tuple(
                JudgedCandidate(
                    outcome=verdicts[number].outcome,
                    sql=self.texts[number],
                    completion=request.candidates[number].completion,
                )
                for number in judged
            ),
        )


def _weighted(reward: float, outcome: Outcome, match_weight: float) -> float:
    return reward * match_weight if outcome is Outcome.MATCH else reward


def _sql_of(candidate: Candidate, extraction: Extraction) -> tuple[str | None, str]:
    """Return the SQL, None without any, and why a plug-in found none. Raises ValueError."""
    if (candidate.sql is None) == (candidate.completion is None):
        raise ValueError("a candidate needs exactly one of sql and completion: correct the caller")
    if candidate.completion is None:
        return candidate.sql, ""
    try:
        return extraction(candidate.completion), ""
    except NoAnswer as why:
        return None, str(why)


def _verdict_without_execution(sql: str | None) -> Verdict | None:
    if sql is None:
        return Verdict(Outcome.NO_SQL, NO_SQL)
    reason = rejection_reason(sql)
    return Verdict(Outcome.REJECTED, reason) if reason else None
