"""Measures a finished arm: its evaluation, its rollouts judged again by execution, and what its reward pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.ablation.arm_runs import START, ArmRun
from floe.cluster.ablation.measures import (
    ArmMeasures,
    Rollout,
    correlation,
    equal_share,
    score_seconds,
    steps_of,
    wrong_share,
)
from floe.cluster.ablation.records import ArmRecord, settings_of
from floe.cluster.bench.reward.hacking_bench import constant_rewards
from floe.cluster.evaluation.before_after_table import PolicyAnswers
from floe.cluster.evaluation.saved_evaluation import CONTROL, EVALUATIONS_FOLDER, TRAINED
from floe.cluster.machine.processor import processor_line
from floe.cluster.messages import Candidate, Outcome, Question, Score, ScoreRequest
from floe.cluster.models.model_folder import model_folder
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.questions.of_run import RunQuestions, questions_of_run
from floe.cluster.run_folder.file_names import POLICY_FILE, ROLLOUTS_FILE
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.tracking.rollout_log import rewarded_groups
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.reward_service.designs.sql_r1 import length_term
from floe.reward_service.scorer import Scorer

GROUPS_AT_ONCE = 64


def record_of(run: ArmRun) -> ArmRecord:
    """Measure a run that was trained on this machine. Raises UserError where it can't be judged."""
    config = config_of_run(run.run_dir, ())
    return ArmRecord(
        settings=settings_of(run.config),
        processor=processor_line(),
        precision=f"{config.model.dtype}, engine {config.rollout.dtype}",
        measures=measures_of(run, _answer_start(run.config)),
    )


def _answer_start(config: RunConfig) -> str:
    """Return what the prompt already holds of each reply. Raises UserError."""
    model_dir = model_folder(config, config.run.home_dir / "demo", weights=False)
    return encoder_of_run(config, model_dir, sets_of_run(config).databases_dir).answer_start


def measures_of(run: ArmRun, answer_start: str) -> ArmMeasures:
    """Run the SQL of every rollout once more, outside of the timed work; `answer_start` stands before each completion.

    Raises UserError where it can't be judged.
    """
    groups = list(_judged_groups(run.config, run.run_dir, answer_start))
    candidates = [one for group in groups for one in group]
    evaluations = run.run_dir / EVALUATIONS_FOLDER
    control = evaluations / CONTROL / POLICY_FILE
    return ArmMeasures(
        arm=run.arm.name,
        seed=run.seed,
        start=PolicyAnswers.read(evaluations / START / POLICY_FILE),
        control=PolicyAnswers.read(control) if control.is_file() else None,
        trained=PolicyAnswers.read(evaluations / TRAINED / POLICY_FILE),
        steps=steps_of(candidates),
        reward_correlation=correlation(candidates),
        wrong_reward_share=wrong_share(candidates),
        score_s=score_seconds(candidates),
        equal_group_share=equal_share(groups),
        constant_rewards=constant_rewards(sets_of_run(run.config), run.config.reward, run.config.run.plugin_folder),
    )


def _judged_groups(config: RunConfig, run_dir: Path, answer_start: str) -> Iterable[list[Rollout]]:
    """Return groups whose candidates carry rewards and whose question has a gold that runs, each as its candidates.

    A group that meets a fault of the machine is judged once more, then left out. Raises UserError when more than
    `run.max_dropped_share` of the groups are left out.
    """
    known = questions_of_run(config)
    if known.databases_dir is None:
        raise UserError(f"The questions of {run_dir} can't be read ({known.fault}): put the data back.")
    groups = rewarded_groups(run_dir / ROLLOUTS_FILE)
    judge = config.reward.model_copy(update={"design": "arctic", "arguments": {}})
    num_faults = 0
    with closing(Scorer(known.databases_dir, judge)) as scorer:
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            chunk = groups[start : start + GROUPS_AT_ONCE]
            requests = [_request(group, _question(known, group[0], run_dir)) for group in chunk]
            for group, scores in zip(chunk, scorer.score_all(requests), strict=True):
                if _fault(scores) is not None:
                    scores = scorer.score(_request(group, _question(known, group[0], run_dir)))
                if fault := _fault(scores):
                    num_faults += 1
                    if num_faults > config.run.max_dropped_share * len(groups):
                        raise UserError(
                            f"{num_faults} of the {len(groups)} groups in {run_dir} could not be judged, the last one "
                            f"of question {group[0].question_id} ({fault}): fix that, and give the same command again."
                        )
                    continue
                if not all(score.outcome.says_correctness for score in scores):
                    continue  # no gold of the question can be run
                yield [
                    Rollout(
                        step=row.step,
                        reward=row.reward,
                        is_right=score.outcome is Outcome.MATCH,
                        executes=score.outcome.executes,
                        in_form=length_term(answer_start + row.completion) is not None,
                        truncated=bool(row.truncated),
                        num_tokens=row.num_tokens,
                        execution_s=row.seconds or 0.0,
                        design_s=row.design_s or 0.0,
                    )
                    for row, score in zip(group, scores, strict=True)
                ]


def _fault(scores: Sequence[Score]) -> str | None:
    """Return why a candidate has no verdict through no fault of its own; None where each has one."""
    return next((one.message for one in scores if one.outcome is Outcome.INFRASTRUCTURE), None)


def _question(known: RunQuestions, row: Any, run_dir: Path) -> Question:
    found = known.find(row.question_id, row.database_id, row.question)
    if found is None:
        raise UserError(
            f"Question {row.question_id} of {run_dir} is no longer in the data, or reads otherwise: put the data back."
        )
    return found


def _request(group: Sequence[Any], question: Question) -> ScoreRequest:
    return ScoreRequest(
        question_id=question.question_id,
        database_id=question.database_id,
        gold_sql=question.gold_sql,
        candidates=tuple(Candidate(completion="") if row.sql is None else Candidate(sql=row.sql) for row in group),
        correctness_only=True,
        semantics=question.semantics,
    )
