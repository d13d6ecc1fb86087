"""Figures of a draw: what the posterior expected, what was seen, and where they go."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.posterior import Beta
from floe.cluster.checkpoints.inputs import inputs_of
from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.messages import Outcome, Question
from floe.cluster.questions.drawn import draw_figures
from floe.cluster.report_page.figures import step_figures
from floe.cluster.report_page.step_series import parse_metrics
from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import view
from floe.cluster.tracking.metrics_log import MetricsLog
from tests.scored_groups import scored_group
from tests.step_records import step_record
from tests.test_run_inputs import QUESTIONS, config, model_dir, sets  # noqa: F401

RIGHT, WRONG, FAILED = (Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.0), (Outcome.GOLD_FAILED, None)
BELIEFS = {"a": Beta(1, 1), "b": Beta(3, 1), "c": Beta(1, 9), "d": Beta(2, 2)}


def question(name: str, source: str = "") -> Question:
    return Question(question_id=name, database_id="shop", text="?", gold_sql=("SELECT 1",), source=source)


def figures_of(groups, train, **changes) -> DrawFigures:
    given = {"group_size": 2, "num_never_drawn": 1, "carries_gradient": lambda group: len(group.scores) > 2}
    return draw_figures(groups, BELIEFS, train, **given | changes)


GROUPS = (scored_group([RIGHT, WRONG, WRONG], "a"), scored_group([RIGHT, RIGHT], "b"), scored_group([FAILED], "c"))


def test_what_was_seen_is_compared_with_what_was_expected():
    found = figures_of(GROUPS, [question(name) for name in BELIEFS])
    assert found.mixed_share == 1 / 2  # of the two groups with a verdict
    assert found.gradient_share == pytest.approx(1 / 3)
    assert found.pass_rate_predicted == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert found.pass_rate_seen == pytest.approx((1 / 3 + 1) / 2)
    assert found.pass_rate_error == pytest.approx((1 / 6 + 1 / 4) / 2)
    assert (found.smallest_group, found.largest_group, found.num_never_drawn) == (1, 3, 1)
    variances = {"a": 1 / 6, "b": 3 / 20, "c": 9 / 110, "d": 1 / 5}
    assert found.variance_expected == pytest.approx(sum(variances[name] for name in "abc") / 3)
    assert found.variance_uniform == pytest.approx(sum(variances.values()) / 4)
    # A group of two is mixed by 2 E[p (1 - p)], of three by 3 E[p (1 - p)], of one never.
    assert found.mixed_share_expected == pytest.approx((3 * variances["a"] + 2 * variances["b"]) / 3)
    assert found.mixed_share_uniform == pytest.approx(2 * sum(variances.values()) / 4)


def test_uniform_in_a_mixture_is_uniform_within_each_source():
    train = [question("a", "one"), question("b", "one"), question("c", "two"), question("d", "two")]
    groups = [
        replace(group, rollout=replace(group.rollout, question=one))
        for group, one in zip(GROUPS[:2], train[2:], strict=True)
    ]
    assert figures_of(groups, train).variance_uniform == pytest.approx((9 / 110 + 1 / 5) / 2)


def test_a_record_has_the_figures_under_draw_and_none_without_a_posterior(tmp_path):
    found = figures_of(GROUPS, [question(name) for name in BELIEFS])
    with MetricsLog(tmp_path) as log:
        log.write(step_record(1, draw=found))
        log.write(step_record(2))
    with_draw, without = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert with_draw["draw_mixed_share"] == 0.5 and with_draw["draw_num_never_drawn"] == 1
    assert not [name for name in without if name.startswith("draw")]


def shown(*figures: DrawFigures, tmp_path) -> list[str]:
    with MetricsLog(tmp_path) as log:
        for step, one in enumerate(figures, start=1):
            log.write(step_record(step, draw=one))
    series = parse_metrics((tmp_path / "metrics.jsonl").read_text())
    return [figure.name for figure in step_figures(series, None) if figure.name.startswith("draw")]


def test_the_page_draws_the_figures_and_sizes_where_they_differ(tmp_path):
    found = figures_of(GROUPS, [question(name) for name in BELIEFS])
    equal = replace(found, smallest_group=3)
    for name in ("unequal", "equal", "none"):
        (tmp_path / name).mkdir()
    curves = ["draw-mixed", "draw-rates", "draw-never"]
    assert shown(found, found, tmp_path=tmp_path / "unequal") == [*curves, "draw-sizes"]
    assert shown(equal, equal, tmp_path=tmp_path / "equal") == curves
    assert shown(None, None, tmp_path=tmp_path / "none") == []


def test_the_view_at_the_foot_of_a_terminal_has_a_line_for_the_draw():
    console = Console(file=io.StringIO(), width=160, highlight=False)
    progress = Progress(console)
    progress.phase("GRPO")
    progress.step(step_record(1, draw=figures_of(GROUPS, [question(name) for name in BELIEFS])), 20)
    console.print(view(progress.watched()))
    line = "right and wrong 50.0 %, 29.9 % expected of a uniform draw   groups of 1 to 3   never drawn 1"
    assert line in console.file.getvalue()


@pytest.mark.parametrize("changes", [{"data": {"sampler": "posterior"}}, {"rollout": (4, 32)}])
def test_measured_rates_are_an_input_of_a_run_that_keeps_a_posterior(config, model_dir, sets, changes):  # noqa: F811
    if "data" in changes:
        keeps = config.model_copy(update={"data": config.data.model_copy(update=changes["data"])})
    else:
        smallest, largest = changes["rollout"]
        sizes = {"min_group_size": smallest, "max_group_size": largest}
        keeps = config.model_copy(update={"rollout": config.rollout.model_copy(update=sizes)})
    rated = replace(sets, pass_rates={QUESTIONS[0].question_id: PassRate(num_samples=8, num_correct=1)})
    assert inputs_of(keeps, model_dir, rated) != inputs_of(keeps, model_dir, sets)
    assert inputs_of(config, model_dir, rated) == inputs_of(config, model_dir, sets)
