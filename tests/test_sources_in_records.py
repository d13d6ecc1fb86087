"""The sources of a mixture wherever a run's numbers go: its records, the terminal, its tables and its page."""

from __future__ import annotations

import io
import json
import math
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from floe.cluster.evaluation import before_and_after
from floe.cluster.evaluation.before_after_table import PolicyAnswers, evaluation_report
from floe.cluster.evaluation.during_training import InterimEvaluation
from floe.cluster.evaluation.harness import Answered
from floe.cluster.evaluation.records import question_records, record_without_answer
from floe.cluster.evaluation.results import read_report
from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.evaluation.summary import summary
from floe.cluster.loop.group_collection import Collected
from floe.cluster.messages import Outcome, ResultProfile
from floe.cluster.operations.status import status as print_status
from floe.cluster.report_page.collect import collect_page
from floe.cluster.report_page.document import document
from floe.cluster.run_folder.status import RunState
from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import evaluation_note, view
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.tracking.ray_metrics import METRICS
from floe.cluster.tracking.reward_metrics import RewardMeter
from floe.cluster.tracking.rollout_log import RolloutLog
from floe.cluster.tracking.source_metrics import SourceAccuracy
from floe.cluster.tracking.step_metrics import InterimResult
from floe.cluster.tracking.tensorboard_curves import TensorBoardCurves
from floe.cluster.training import attempt
from floe.cluster.training.recorder import Measured, RunRecorder
from floe.configs.files.loading import load_config
from tests.evaluations import IDENTITY, evaluation, record
from tests.fake_cluster import FakeCluster
from tests.run_folders import small_run, write_metrics, write_status
from tests.scored_groups import scored_group, step_report
from tests.step_records import PUBLISHED, TIMINGS, metrics_of, step_record

RIGHT, WRONG, FAILED = (Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.1), (Outcome.GOLD_FAILED, None)
SOURCES = ("geo", "spider", "synthetic")
INTERIM = InterimResult(
    adapter_version=4, greedy=0.5, executes=1.0, num_questions=6, seconds=1.0, is_best=True,
    by_source=(
        SourceAccuracy(name="geo", greedy=0.75, num_questions=4),
        SourceAccuracy(name="spider", greedy=0.0, num_questions=2),
    ),
)  # fmt: skip


def group_of(source: str, outcomes, question_id: str = "q1"):
    group = scored_group(outcomes, question_id)
    question = replace(group.rollout.question, source=source)
    return replace(group, rollout=replace(group.rollout, question=question))


MIXTURE = (
    group_of("spider", [RIGHT, WRONG]),
    group_of("geo", [RIGHT, RIGHT]),
    group_of("spider", [WRONG, WRONG]),
    group_of("spider", [FAILED, FAILED]),
)


def mixture_record(step: int = 3):
    return replace(metrics_of(*MIXTURE, sources=SOURCES), step=step)


def written(folder, *records, **parts) -> list[dict]:
    with MetricsLog(folder) as log:
        for one in records:
            log.write(one, **parts)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_source_has_its_own_figures_and_together_they_are_all():
    geo, spider, synthetic = mixture_record().by_source
    assert (geo.name, geo.num_questions, geo.reward_mean, geo.correct_share, geo.zero_variance_share) == (
        "geo", 1, 1.0, 1.0, 1.0,
    )  # fmt: skip
    assert (spider.name, spider.num_questions, spider.correct_share, spider.zero_variance_share) == (
        "spider", 3, 0.25, 0.5,
    )  # fmt: skip
    assert spider.reward_mean == pytest.approx(1.3 / 4)
    assert synthetic.num_questions == 0 and math.isnan(synthetic.reward_mean)
    assert sum(one.num_questions for one in (geo, spider, synthetic)) == mixture_record().num_groups


def test_the_keys_of_a_mixture_are_the_same_in_every_record(tmp_path):
    only_geo = metrics_of(group_of("geo", [RIGHT, WRONG]), sources=SOURCES)
    first, second = written(tmp_path, mixture_record(), only_geo)
    names = {name for name in first if name.startswith("source/")}
    assert names == {name for name in second if name.startswith("source/")}
    assert names == {
        f"source/{source}/{number}"
        for source in SOURCES
        for number in ("num_questions", "reward_mean", "correct_share", "zero_variance_share")
    }
    assert (first["source/spider/correct_share"], second["source/spider/correct_share"]) == (0.25, None)
    assert (second["source/spider/num_questions"], second["source/geo/num_questions"]) == (0, 1)
    assert not any("by_source" in name for name in first)


def test_without_a_mixture_a_record_says_nothing_of_sources(tmp_path):
    interim = replace(INTERIM, by_source=())
    (found,) = written(tmp_path, step_record(1), evaluated=interim)
    assert not any("source" in name for name in found)
    assert metrics_of(group_of("", [RIGHT])).by_source == ()


def test_an_evaluation_and_the_trackers_have_the_sources(tmp_path):
    with MetricsLog(tmp_path, [TensorBoardCurves(tmp_path)]) as log:
        log.write(mixture_record(), None, INTERIM)
    found = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (found["source/geo/eval_greedy"], found["source/geo/eval_num_questions"]) == (0.75, 4)
    assert found["eval_greedy"] == 0.5
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert [one.tensor_proto.float_val[0] for one in curves.Tensors("source/geo/reward_mean")] == [1.0]


def test_prometheus_tags_a_gauge_with_each_source(tmp_path):
    (values,) = written(tmp_path, mixture_record(), evaluated=INTERIM)
    shown = {metric.name: metric.shown(values) for metric in METRICS}
    assert shown["floe_source_questions"] == [("geo", 1), ("spider", 3), ("synthetic", 0)]
    assert shown["floe_source_correct_share"] == [("geo", 1.0), ("spider", 0.25)]
    assert shown["floe_source_eval_accuracy"] == [("geo", 0.75), ("spider", 0.0)]
    assert shown["floe_correct_share"] == [("", mixture_record().correct_share)]


def test_the_step_line_the_view_and_the_note_name_the_sources():
    console = Console(file=io.StringIO(), width=160, highlight=False)
    progress = Progress(console)
    progress.phase("GRPO")
    progress.step(mixture_record(), 20)
    assert "reward 0.550 (geo 1.000, spider 0.325, synthetic -)  correct" in console.file.getvalue()
    progress.evaluated(INTERIM)
    assert "50.0 % of 6 held-back questions right (geo 75.0 % of 4, spider 0.0 % of 2), best" in console.file.getvalue()
    console.print(view(progress.watched()))
    assert "spider   reward 0.325   correct 25.0 %   equal rewards 50.0 %   questions 3" in console.file.getvalue()
    held_back = "held back 50.0 % of 6 right with version 4 (geo 75.0 % of 4, spider 0.0 % of 2)"
    assert held_back in console.file.getvalue()
    assert "(" not in evaluation_note(replace(INTERIM, by_source=()))


def test_an_evaluation_during_training_counts_each_source_and_no_question_without_a_verdict():
    groups = [
        group_of("geo", [RIGHT], "a"), group_of("geo", [WRONG], "b"), group_of("geo", [FAILED], "c"),
        group_of("spider", [FAILED], "d"),
    ]  # fmt: skip
    harness = SimpleNamespace(greedy=lambda questions, version: tuple(groups))
    result = InterimEvaluation(harness, [one.rollout.question for one in groups], 1, nullcontext).after(0)
    geo, spider = result.by_source
    assert (geo.name, geo.greedy, geo.num_questions) == ("geo", 0.5, 2)
    assert (spider.name, spider.num_questions) == ("spider", 0) and math.isnan(spider.greedy)


class Finished(FakeCluster):
    """A learner and reward workers of which nothing is asked but their records."""

    def save_adapter(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

    def metrics(self):
        return RewardMeter().take([])


def recorded(folder, groups, interim: InterimResult, sources=()) -> None:
    cluster = Finished()
    progress = Progress(Console(file=io.StringIO()))
    with RunRecorder(
        folder, num_steps=1, learner=cluster, measured=Measured(rollouts=cluster, rewards=cluster),
        interim=SimpleNamespace(after=lambda step: interim), progress=progress, max_log_bytes=2**30, sources=sources,
    ) as recorder:  # fmt: skip
        recorder.record(
            Collected(groups=groups, rollout_s=1.0, reward_s=1.0), 0, step_report(step=1), PUBLISHED, TIMINGS
        )


def test_a_runs_folder_has_the_sources_in_each_of_its_records(tmp_path):
    recorded(tmp_path, MIXTURE, INTERIM, SOURCES)
    found = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert found["source/synthetic/num_questions"] == 0 and found["source/spider/num_questions"] == 3
    best = json.loads((tmp_path / "adapters" / "best.json").read_text())
    assert best["by_source"][0] == {"name": "geo", "greedy": 0.75, "num_questions": 4}
    with closing(sqlite3.connect(tmp_path / "rollouts.sqlite")) as connection:
        rows = connection.execute("SELECT source, count(*) FROM rollouts GROUP BY source").fetchall()
    assert rows == [("geo", 2), ("spider", 6)]


def recorded_by_a_run(folder, group, *overrides):
    """Return the metrics that the recorder of a run with MIXTURE's questions writes for one step."""
    config = load_config(None, ["run.num_steps=1", *overrides])
    run = SimpleNamespace(
        config=config, given=config, run_dir=folder, progress=Progress(Console(file=io.StringIO())),
        sets=SimpleNamespace(train=[one.rollout.question for one in MIXTURE]),
    )  # fmt: skip
    cluster = Finished()
    measured = Measured(rollouts=cluster, rewards=cluster)
    with attempt._recorder(run, cluster, measured, SimpleNamespace(after=lambda step: None), None) as recorder:
        taken = Collected(groups=(group,), rollout_s=1.0, reward_s=1.0)
        recorder.record(taken, 0, step_report(step=1), PUBLISHED, TIMINGS)
    return json.loads((folder / "metrics.jsonl").read_text())


def test_a_run_records_every_source_of_its_training_questions(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt, "record_sinks", lambda *_: ())
    found = recorded_by_a_run(tmp_path, MIXTURE[1])
    assert (found["source/geo/num_questions"], found["source/spider/num_questions"]) == (1, 0)


@pytest.mark.parametrize(("advantage_terms", "share"), [("sum", 1.0), ("gdpo", 0.0)])
def test_a_run_counts_equal_groups_as_its_advantages_are_taken(tmp_path, monkeypatch, advantage_terms, share):
    monkeypatch.setattr(attempt, "record_sinks", lambda *_: ())
    group = scored_group([(Outcome.MISMATCH, 1.0), (Outcome.MISMATCH, 1.0)])
    terms = ({"execution": 1.0, "format": 0.0}, {"execution": 0.0, "format": 1.0})
    weights = {"execution": 1.0, "format": 1.0}
    scores = zip(group.scores, terms, strict=True)
    group = replace(group, scores=tuple(replace(one, terms=own, term_weights=weights) for one, own in scores))
    design = ("reward.design=sql_r1", f"algorithm.advantage_terms={advantage_terms}")
    assert recorded_by_a_run(tmp_path, group, *design)["zero_variance_share"] == share


def test_without_a_mixture_a_runs_folder_is_as_it_was(tmp_path):
    recorded(tmp_path, (scored_group([RIGHT, WRONG]),), replace(INTERIM, by_source=()))
    assert "source" not in (tmp_path / "metrics.jsonl").read_text()
    assert "source" not in (tmp_path / "adapters" / "best.json").read_text()
    with closing(sqlite3.connect(tmp_path / "rollouts.sqlite")) as connection:
        assert connection.execute("SELECT DISTINCT source FROM rollouts").fetchall() == [(None,)]


def test_an_older_file_of_rollouts_gets_the_column(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path) as log:
        log.append(1, [scored_group([RIGHT])])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE rollouts DROP COLUMN source")
    with RolloutLog(path) as log:
        log.append(2, [group_of("geo", [RIGHT])])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT step, source FROM rollouts ORDER BY step").fetchall() == [
            (1, None),
            (2, "geo"),
        ]


def test_floe_status_has_a_line_for_each_source(tmp_path, capsys):
    write_status(tmp_path, RunState.TRAINING, 3)
    written(tmp_path, mixture_record(1), evaluated=INTERIM)
    written(tmp_path, replace(metrics_of(group_of("geo", [WRONG]), sources=SOURCES), step=2))
    print_status(tmp_path, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "  geo: reward 0.100, 0.0 % right, 100.0 % of groups with equal rewards, 1 question, "
        "75.0 % of 4 held-back questions right",
        "  spider: reward -, - right, - of groups with equal rewards, 0 questions, "
        "0.0 % of 2 held-back questions right",
        "  synthetic: reward -, - right, - of groups with equal rewards, 0 questions",
    ]
    print_status(tmp_path, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["by_source"]["geo"]["eval_greedy"] == 0.75 and found["by_source"]["spider"]["num_questions"] == 0


def test_floe_status_of_a_run_without_a_mixture_is_as_it_was(tmp_path, capsys):
    write_status(tmp_path, RunState.TRAINING, 3)
    write_metrics(tmp_path, (1, 2))
    print_status(tmp_path, as_json=False)
    assert len(capsys.readouterr().out.splitlines()) == 3  # state, where it can be seen, and since when it is silent
    print_status(tmp_path, as_json=True)
    assert "by_source" not in json.loads(capsys.readouterr().out)


def answers(name: str, greedy: str, correct: tuple[int, ...]) -> PolicyAnswers:
    flags = tuple(one == "1" for one in greedy)
    return PolicyAnswers(
        name=name, temperature=0.8, question_ids=tuple("abcd"), greedy_correct=flags, greedy_executes=flags,
        num_samples=4, sample_num_correct=correct, sample_num_executes=(4, 4, 4, 4),
    )  # fmt: skip


def table(sources: dict[str, str] | None):
    policies = [answers("warm start", "1000", (2, 0, 0, 4)), answers("GRPO", "1011", (4, 0, 1, 3))]
    return evaluation_report(policies, num_resamples=200, seed=1, sources=sources)


BY_ID = {"a": "spider", "b": "spider", "c": "spider", "d": "geo"}


def test_the_table_has_rows_and_differences_of_each_source():
    geo, spider = table(BY_ID).by_source
    assert [(row.name, row.greedy.mean, row.sampled.mean) for row in geo.rows] == [
        ("warm start", 0.0, 1.0), ("GRPO", 1.0, 0.75),
    ]  # fmt: skip
    assert (spider.source, spider.num_questions) == ("spider", 3)
    assert spider.rows[1].greedy.mean == pytest.approx(2 / 3) and spider.rows[1].greedy.num_questions == 3
    (difference,) = spider.differences
    assert difference.greedy.mean == pytest.approx(1 / 3) and difference.sampled.mean == pytest.approx(3 / 12)
    assert table(BY_ID).rows == table(None).rows


def test_the_table_by_source_is_printed_below_and_fits_100_columns():
    console = Console(file=io.StringIO(), width=100)
    table(BY_ID).render(console)
    text = console.file.getvalue()
    assert text.index("Paired difference to the warm start") < text.index("By source: accuracy in %")
    assert "spider (3)" in text and "+33.3 [" in text and "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_tables_file_says_nothing_of_sources_without_a_mixture(tmp_path):
    assert "source" not in table(None).to_json() and "source" not in table({"a": "", "b": ""}).to_json()
    (tmp_path / "report.json").write_text(table(BY_ID).to_json())
    assert read_report(tmp_path) == table(BY_ID)


def answered(name: str = "") -> Answered:
    """Return greedy answers and one sample each: right on the question of geo and on one of two of spider."""
    profile = ResultProfile(
        digest="d", num_rows=1, column_counts=None, soft_f1=1.0, is_bird_match=True, is_spider_match=True
    )
    groups = [group_of("geo", [RIGHT], "a"), group_of("spider", [WRONG], "b"), group_of("spider", [RIGHT], "c")]
    groups = [replace(one, scores=tuple(replace(score, profile=profile) for score in one.scores)) for one in groups]
    return Answered(name=name, temperature=0.8, num_samples=1, sampled=tuple(groups), greedy=tuple(groups))


def test_the_table_of_a_run_is_by_the_sources_of_its_questions(tmp_path, monkeypatch):
    monkeypatch.setattr(before_and_after, "evaluation_identity", lambda *_: IDENTITY)
    config = load_config(None, ["evaluation.include_base=false", "evaluation.include_entropy_control=false"])
    harness = SimpleNamespace(config=config, encoder=None, answers=lambda name, *_: answered(name))
    questions = [group.rollout.question for group in answered().sampled]
    run = before_and_after.RunEvaluation(harness, questions, tmp_path, tmp_path)
    run.before()
    report = run.after(1, None, ())
    assert [(part.source, part.num_questions, part.rows[-1].greedy.mean) for part in report.by_source] == [
        ("geo", 1, 1.0), ("spider", 2, 0.5),
    ]  # fmt: skip
    saved = read_evaluation(tmp_path / "evaluations" / "trained" / "evaluation.json")
    assert [one.source for one in saved.records] == ["geo", "spider", "spider"]


def test_floe_evaluate_has_the_figures_of_each_source(tmp_path):
    too_long = record_without_answer(group_of("spider", [RIGHT], "d").rollout.question, is_timed=False)
    saved = evaluation(*question_records(answered(), is_timed=False), too_long)
    assert read_evaluation(saved.write(tmp_path)) == saved
    found = summary(saved, 200)
    means = {name: part["greedy"].mean for name, part in found.by_source.items()}
    assert means == {"geo": 1.0, "spider": pytest.approx(1 / 3)}
    console = Console(file=io.StringIO(), width=100)
    found.render(console)
    assert "By source" in console.file.getvalue()


def test_an_evaluation_without_a_mixture_is_written_as_it_was(tmp_path):
    saved = evaluation(record("a", True))
    assert "source" not in saved.write(tmp_path).read_text()
    assert "source" not in summary(saved, 200).to_json()


def test_the_page_of_a_mixture_has_its_curves_and_tables(tmp_path):
    folder = small_run(tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    written(folder, mixture_record(1), evaluated=INTERIM)
    hostile = replace(mixture_record(2).by_source[0], name="<a href=x>")
    written(folder, replace(mixture_record(2), by_source=(*mixture_record(2).by_source, hostile)))
    (folder / "report.json").write_text(table(BY_ID).to_json())
    page = collect_page(folder, 1_790_000_200.0)
    spider = next(row for row in page.sources if row.name == "spider")
    assert (spider.num_questions, spider.question_share, spider.right) == (6, 6 / 9, (0.25, 0.25))
    assert spider.accuracy == (0.0, 0.0) and page.sources[-1].accuracy is None
    plots = {figure.name: figure.plot for figure in page.figures}
    assert {"source-reward", "source-right", "source-equal", "source-accuracy"} <= plots.keys()
    curves = {trace["name"]: trace["y"] for trace in plots["source-right"]["data"]}
    assert curves["spider"] == [25.0, 25.0] and "synthetic" not in curves
    assert "&lt;a href=x&gt;" in curves
    text = document(page)
    assert "Sources of the mixture" in text and "By source, with paired differences to the warm start" in text
    assert "<a href=x>" not in text and "0.325 → 0.325" in text


def test_the_page_of_another_run_has_none_of_them(tmp_path):
    page = collect_page(small_run(tmp_path / "run"), 1_790_000_200.0)
    assert page.sources == [] and not any(figure.name.startswith("source") for figure in page.figures)
    assert "Sources of the mixture" not in document(page) and "By source" not in document(page)
