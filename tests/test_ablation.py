"""Arms, what a finished arm is measured by, and the report over them; the runs themselves are made up of real files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.ablation.arm_runs import START, ArmRun, planned_runs, shared_precision, train
from floe.cluster.ablation.arms import Arm, arms_of
from floe.cluster.ablation.judged_rollouts import measures_of
from floe.cluster.ablation.measures import (
    ArmMeasures,
    Rollout,
    correlation,
    equal_share,
    mean_outcome,
    score_seconds,
    steps_of,
    wrong_share,
)
from floe.cluster.ablation.plot import ablation_page
from floe.cluster.ablation.report import ablation_report
from floe.cluster.evaluation.before_after_table import PolicyAnswers
from floe.cluster.evaluation.saved_evaluation import EVALUATIONS_FOLDER, TRAINED
from floe.cluster.messages import Outcome, ScoredGroup
from floe.cluster.precision.resolved import with_dtypes
from floe.cluster.run_folder.file_names import POLICY_FILE, ROLLOUTS_FILE
from floe.cluster.tracking.rollout_log import RolloutLog
from floe.configs.errors import UserError
from floe.configs.files.loading import dump_config
from tests.command_line import config
from tests.score_requests import GOLD, make_database
from tests.scored_groups import scored_group


def rollout(reward: float, is_right: bool, step: int = 1, num_tokens: int = 10, **times: float) -> Rollout:
    seconds = {"execution_s": 0.0, "design_s": 0.0} | times
    return Rollout(
        step=step,
        reward=reward,
        is_right=is_right,
        executes=is_right or reward > 0,
        in_form=reward != 0,
        truncated=num_tokens > 25,
        num_tokens=num_tokens,
        **seconds,
    )


def policy(name: str, num_correct: tuple[int, ...], num_samples: int = 4) -> PolicyAnswers:
    return PolicyAnswers(
        name=name,
        temperature=1.0,
        question_ids=tuple(f"q{i}" for i in range(len(num_correct))),
        greedy_correct=tuple(count > 2 for count in num_correct),
        greedy_executes=(True,) * len(num_correct),
        num_samples=num_samples,
        sample_num_correct=num_correct,
        sample_num_executes=(num_samples,) * len(num_correct),
    )


def test_each_reward_is_an_arm_and_a_variant_sets_what_it_says():
    arms = arms_of(["arctic", "sql_r1"], ["arctic+std: reward.design=arctic algorithm.advantage_scale=std"])
    assert [arm.name for arm in arms] == ["arctic", "sql_r1", "arctic+std"]
    assert arms[1].overrides == ("reward.design=sql_r1",)
    assert arms[2].overrides == ("reward.design=arctic", "algorithm.advantage_scale=std")


@pytest.mark.parametrize(
    ("rewards", "variants", "said"),
    [
        ([], [], "needs arms"),
        (["arctic", "arctic"], [], "called 'arctic'"),
        ([], ["std"], "write a name, a colon"),
        ([], ["std: reward.design"], "write a name, a colon"),
        ([], ["a/b: reward.design=arctic"], "can't name an arm"),
    ],
)
def test_arms_that_are_none_are_refused(rewards, variants, said):
    with pytest.raises(UserError, match=said):
        arms_of(rewards, variants)


def test_what_wrong_candidates_earned_is_of_the_reward_above_zero():
    candidates = [rollout(1.0, True), rollout(0.1, False), rollout(0.1, False), rollout(-1.0, False), rollout(0, False)]
    assert wrong_share(candidates) == pytest.approx(0.2 / 1.2)
    assert wrong_share([rollout(-1.0, False), rollout(0.0, True)]) is None


def test_the_correlation_of_a_reward_with_correctness():
    assert correlation([rollout(1.0, True), rollout(0.0, False), rollout(1.0, True)]) == pytest.approx(1)
    assert correlation([rollout(0.0, True), rollout(1.0, False)]) == pytest.approx(-1)
    assert correlation([rollout(0.5, True), rollout(0.5, False)]) is None
    assert correlation([rollout(0.5, True), rollout(1.0, True)]) is None


@given(st.lists(st.tuples(st.floats(-2, 8), st.booleans()), min_size=1, max_size=40))
def test_shares_and_correlations_stay_in_their_ranges(pairs):
    candidates = [rollout(reward, is_right) for reward, is_right in pairs]
    share, found = wrong_share(candidates), correlation(candidates)
    assert share is None or 0 <= share <= 1
    assert found is None or -1.0001 <= found <= 1.0001


def test_steps_add_their_tokens_up_and_a_score_is_timed_where_it_ran():
    candidates = [
        rollout(1.0, True, step=2, num_tokens=20, execution_s=0.004, design_s=0.001),
        rollout(0.0, False, step=1, num_tokens=10, execution_s=0.002, design_s=0.001),
        rollout(0.0, False, step=1, num_tokens=30, design_s=0.001),  # its verdict was known
    ]
    first, second = steps_of(candidates)
    assert (first.step, first.generated_tokens, first.right_share, first.mean_tokens) == (1, 40, 0.0, 20.0)
    assert (second.generated_tokens, second.right_share) == (60, 1.0)
    assert (first.reward, first.executes_share, first.form_share, first.truncated_share) == (0.0, 0.0, 0.0, 0.5)
    assert (second.reward, second.executes_share, second.form_share, second.truncated_share) == (1.0, 1.0, 1.0, 0.0)
    mean = mean_outcome([first, second])
    assert (mean.reward, mean.right_share, mean.truncated_share, mean.mean_tokens) == (0.5, 0.5, 0.25, 20.0)
    assert score_seconds(candidates) == pytest.approx(0.003 + 0.001)
    assert equal_share([candidates[1:], candidates]) == 0.5


def measures(
    arm: str, seed: int, num_correct: tuple[int, ...], control: tuple[int, ...] | None = (2, 1, 1)
) -> ArmMeasures:
    candidates = [rollout(1.0, True), rollout(0.1, False)]
    return ArmMeasures(
        arm=arm,
        seed=seed,
        start=policy("warm start", (1, 1, 1)),
        control=policy("warm start, T 0.80", control) if control else None,
        trained=policy("GRPO", num_correct),
        steps=steps_of(candidates),
        constant_rewards={"gold": 1.0, "SELECT 1": 0.1, "nothing": 0.0},
        reward_correlation=correlation(candidates),
        wrong_reward_share=wrong_share(candidates),
        score_s=0.001,
        equal_group_share=0.25,
    )


def test_the_report_has_a_row_for_each_seed_and_one_for_all_with_paired_differences():
    report = ablation_report(
        [measures("arctic", 1, (2, 2, 2)), measures("sql_r1", 1, (4, 4, 4)), measures("arctic", 2, (4, 2, 0))], 200, 1
    )
    assert [(row.arm, row.seed) for row in report.rows] == [
        ("arctic", 1),
        ("arctic", 2),
        ("arctic", None),
        ("sql_r1", 1),
    ]
    by_row = {(row.arm, row.seed): row for row in report.rows}
    assert by_row["arctic", 1].gain.mean == pytest.approx(0.25)
    assert by_row["arctic", 1].gain.low == pytest.approx(0.25)  # the same on every question: nothing to be unsure of
    assert by_row["arctic", None].sampled.mean == pytest.approx(0.5)
    assert by_row["sql_r1", 1].to_first is not None
    assert by_row["sql_r1", 1].to_first.mean == pytest.approx(0.5)
    assert by_row["arctic", None].to_first is None
    assert by_row["sql_r1", 1].to_control is not None
    assert by_row["sql_r1", 1].to_control.mean == pytest.approx(1 - (0.5 + 0.25 + 0.25) / 3)
    assert json.loads(report.to_json())["num_questions"] == 3
    page = ablation_page(report)
    assert "sql_r1" in page and 'src="http' not in page  # all of it is in the file


@pytest.fixture
def base(tmp_path: Path) -> tuple[Path, list[str]]:
    """A configuration on one's own data, and the overrides that complete it."""
    make_database(tmp_path, "emp")
    golds = [f"{GOLD} WHERE id <> {100 + i}" for i in range(30)]  # of one gold all questions would be in one split
    questions = [
        {"question_id": f"q{i}", "db_id": "emp", "question": f"who {i}?", "query": gold} for i, gold in enumerate(golds)
    ]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    return config_path(), [
        "run.max_generated_tokens=1000",
        "data.source=files",
        f"data.questions={tmp_path / 'questions.json'}",
        f"data.databases={tmp_path}",
        f"run.home={tmp_path / 'home'}",
    ]


def config_path() -> Path:
    return Path(config("ablation.yaml"))


def test_an_ablation_needs_a_budget_of_tokens_and_an_evaluation(tmp_path):
    arms = arms_of(["arctic"], [])
    with pytest.raises(UserError, match=r"run\.max_generated_tokens is not set"):
        planned_runs(Path(config("quickstart.yaml")), [], arms, 1, tmp_path, tmp_path / "records")
    with pytest.raises(UserError, match=r"evaluation\.enabled is false"):
        planned_runs(config_path(), ["evaluation.enabled=false"], arms, 1, tmp_path, tmp_path / "records")


def one_planned(path: Path, overrides: list[str], tmp_path: Path) -> list[ArmRun]:
    arms = (Arm(name="arctic", overrides=()),)
    return planned_runs(path, overrides, arms, 1, tmp_path / "out", tmp_path / "records")


def group_of(question_id: str, *queries: str) -> ScoredGroup:
    """Make rewards that say the opposite of what is right."""
    group = scored_group([(Outcome.NOT_EXECUTED, float(i)) for i in range(len(queries))])
    text = f"who {question_id[1:]}?"
    question = replace(group.rollout.question, question_id=question_id, database_id="emp", text=text)
    scores = tuple(replace(score, sql=sql) for score, sql in zip(group.scores, queries, strict=True))
    return ScoredGroup(rollout=replace(group.rollout, question=question), scores=scores)


def finished_run(run: ArmRun, num_correct: tuple[int, ...]) -> None:
    """Make a run as training leaves it, with two groups of rollouts."""
    run.run_dir.mkdir(parents=True)
    dump_config(run.config, run.run_dir / "config.yaml")
    for name in (START, TRAINED):
        folder = run.run_dir / EVALUATIONS_FOLDER / name
        folder.mkdir(parents=True)
        policy(name, num_correct if name == TRAINED else (1, 1, 1)).write(folder / POLICY_FILE)
    (run.run_dir / "report.json").write_text("{}")
    with RolloutLog(run.run_dir / ROLLOUTS_FILE) as log:
        log.append(1, [group_of("q1", GOLD, "SELECT id FROM emp")])


def test_runs_go_seed_by_seed_and_finished_ones_are_left_alone(base, tmp_path):
    path, overrides = base
    arms = arms_of(["arctic", "sql_r1"], [])
    runs = planned_runs(path, overrides, arms, 2, tmp_path / "out", tmp_path / "records")
    assert [(run.arm.name, run.seed) for run in runs] == [("arctic", 1), ("sql_r1", 1), ("arctic", 2), ("sql_r1", 2)]
    assert runs[1].config.reward.design == "sql_r1" and runs[2].config.run.seed == 2
    assert runs[0].config.warm_start_seed == runs[2].config.warm_start_seed
    assert not runs[0].is_finished
    finished_run(runs[0], (4, 4, 4))
    again = planned_runs(path, overrides, arms, 2, tmp_path / "out", tmp_path / "records")
    assert again[0].is_finished
    train(again[0], again, path, overrides)  # would end in an error, were it run


def test_later_arms_compute_in_the_precision_that_the_first_decided(base, tmp_path):
    """Check the precision: measured separately, two runs on a busy machine took unlike ones, and differed by them."""
    path, overrides = base
    runs = planned_runs(path, overrides, arms_of(["arctic", "sql_r1"], []), 1, tmp_path / "out", tmp_path / "records")
    assert shared_precision(runs) == []
    finished_run(runs[0], (4, 4, 4))
    dump_config(with_dtypes(runs[0].config, "float32", "bfloat16"), runs[0].run_dir / "config.yaml")
    assert shared_precision(runs) == ["model.dtype=float32", "rollout.dtype=bfloat16"]
    again = planned_runs(path, overrides, arms_of(["arctic", "sql_r1"], []), 1, tmp_path / "out", tmp_path / "records")
    assert again[0].is_finished  # the decisions of earlier runs make it no other ablation


def test_a_folder_of_another_ablation_is_refused(base, tmp_path):
    path, overrides = base
    arms = arms_of(["arctic"], [])
    (run,) = planned_runs(path, overrides, arms, 1, tmp_path / "out", tmp_path / "records")
    finished_run(run, (4, 4, 4))
    with pytest.raises(UserError, match=r"rollout\.temperature"):
        planned_runs(path, [*overrides, "rollout.temperature=0.5"], arms, 1, tmp_path / "out", tmp_path / "records")


def test_rollouts_are_judged_anew_by_execution(base, tmp_path):
    path, overrides = base
    (run,) = planned_runs(
        path, overrides, (Arm(name="arctic", overrides=()),), 1, tmp_path / "out", tmp_path / "records"
    )
    finished_run(run, (4, 4, 4))
    found = measures_of(run, "<think>")
    assert [step.right_share for step in found.steps] == [0.5]
    assert found.reward_correlation == pytest.approx(-1)
    assert found.wrong_reward_share == 1
    assert found.trained.sample_num_correct == (4, 4, 4)
    assert found.constant_rewards["gold"] == 1.0 and found.constant_rewards["nothing"] == 0.0
    assert [(step.executes_share, step.reward) for step in found.steps] == [(1.0, 0.5)]


def test_a_rollout_that_can_not_be_judged_is_no_wrong_one(base, tmp_path):
    path, overrides = base
    (run,) = planned_runs(
        path, overrides, (Arm(name="arctic", overrides=()),), 1, tmp_path / "out", tmp_path / "records"
    )
    finished_run(run, (4, 4, 4))
    (tmp_path / "emp" / "emp.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(
        UserError, match=r"1 of the 1 groups .* could not be judged, .*question q1 .*give the same command again"
    ):
        measures_of(run, "<think>")


def test_a_question_that_is_gone_is_said(base, tmp_path):
    path, overrides = base
    (run,) = planned_runs(
        path, overrides, (Arm(name="arctic", overrides=()),), 1, tmp_path / "out", tmp_path / "records"
    )
    finished_run(run, (4, 4, 4))
    file = tmp_path / "questions.json"
    file.write_text(file.read_text().replace("who 1?", "whose?"))
    with pytest.raises(UserError, match=r"Question q1 of .* is no longer in the data"):
        measures_of(run, "<think>")
