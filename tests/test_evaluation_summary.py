"""The figures of one evaluation, overall and by part, and that saving loses nothing."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from floe.cluster.evaluation.records import r_ves
from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.evaluation.summary import summary
from floe.cluster.messages import Outcome
from floe.configs.errors import UserError
from tests.evaluations import IDENTITY, evaluation, record

RECORDS = (
    record("a", True, 4, hardness="easy"),
    record("b", False, 2, hardness="extra", database_id="zoo"),
    record("c", False, 0, hardness="easy"),
)


def test_figures_by_hand():
    report = summary(evaluation(*RECORDS), 200)
    means = {name: interval.mean for name, interval in report.overall.items()}
    assert means["greedy"] == means["BIRD EX"] == pytest.approx(1 / 3)
    assert means["mean of 4"] == means["pass@1"] == pytest.approx((1 + 0.5) / 3)
    assert means["pass@2"] == pytest.approx((1 + 5 / 6) / 3)  # 1 of the 6 pairs has neither of 2 right ones
    assert means["pass@4"] == pytest.approx(2 / 3)
    assert (means["vote, exact"], means["vote, soft"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert means["BIRD soft F1"] == pytest.approx(2 / 3)
    assert means["samples execute"] == 1
    assert not any("R-VES" in name or "suite" in name for name in means)
    assert list(report.by_hardness) == ["easy", "extra"]
    assert report.by_hardness["extra"]["pass@4"].mean == 1 and report.by_hardness["extra"]["greedy"].num_questions == 1
    assert report.by_database["shop"]["greedy"].mean == 0.5


def test_with_a_suite_and_timings_their_metrics_are_there():
    timed = dataclasses.replace(RECORDS[0].greedy, r_ves=r_ves(2.5), is_spider_match=False)
    report = summary(evaluation(dataclasses.replace(RECORDS[0], greedy=timed), has_suite=True), 200)
    means = {name: interval.mean for name, interval in report.overall.items()}
    assert means["BIRD R-VES (depends on timing)"] == pytest.approx(1.25**0.5)
    assert (means["Spider test suite"], means["Spider execution"]) == (1, 0)


def test_what_could_not_be_measured_is_no_zero():
    unmeasured = dataclasses.replace(RECORDS[1].greedy, soft_f1=None)
    report = summary(evaluation(RECORDS[0], dataclasses.replace(RECORDS[1], greedy=unmeasured)), 200)
    assert (report.overall["BIRD soft F1"].mean, report.overall["BIRD soft F1"].num_questions) == (1, 1)


@pytest.mark.parametrize(
    ("ratio", "reward"),
    [(None, 0), (2.0, 1.25), (1.99, 1), (1.0, 1), (0.99, 0.75), (0.5, 0.75), (0.49, 0.5), (0.25, 0.5), (0.24, 0.25)],
)
def test_steps_of_r_ves(ratio, reward):
    assert r_ves(ratio) == pytest.approx(reward**0.5)


def test_tables_fit_100_columns_and_json_has_every_k():
    report = summary(evaluation(*RECORDS, num_asked=5, left_out=("d: infrastructure: gone",)), 200)
    console = Console(file=io.StringIO(), width=100)
    report.render(console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "pass@2" in text and "pass@3" not in text and "2 questions left out" in text and "d: infra" in text
    overall = json.loads(report.to_json())["overall"]
    assert {"pass@1", "pass@2", "pass@3", "pass@4"} <= overall.keys()


def test_a_saved_evaluation_is_read_back_equal(tmp_path):
    saved = evaluation(
        *RECORDS, record("e", False, greedy=dataclasses.replace(RECORDS[1].greedy, outcome=Outcome.NO_SQL, sql=None))
    )
    assert read_evaluation(saved.write(tmp_path / "new")) == saved
    assert saved.identity == IDENTITY


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": {}, "records": []}'])
def test_a_file_that_holds_no_evaluation_is_a_users_error(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="holds no evaluation"):
        read_evaluation(tmp_path / "x.json")


def test_an_evaluation_without_a_verdict_is_a_users_error():
    with pytest.raises(UserError, match="No question"):
        summary(evaluation(num_asked=3), 200)
