"""The flat record of a step, its file and curves, and what the console shows of it."""

import dataclasses
import io
import json
import math
import os
from dataclasses import replace

import pytest
from rich.console import Console
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from floe.cluster.messages import Outcome
from floe.cluster.terminal.progress import Progress
from floe.cluster.time_plan.durations import duration
from floe.cluster.tracking.metrics_log import MetricsLog, forget_metrics_after
from floe.cluster.tracking.step_metrics import entropy_estimate
from floe.cluster.tracking.tensorboard_curves import TensorBoardCurves
from tests.scored_groups import scored_group
from tests.step_records import MIXED, metrics_of, step_record


def test_shares_are_over_candidates_that_carry_a_reward():
    metrics = metrics_of(scored_group(MIXED))
    assert metrics.reward_mean == pytest.approx(1.1 / 3)
    assert metrics.correct_share == pytest.approx(1 / 3)
    assert metrics.executes_share == pytest.approx(2 / 3)


def test_correct_is_the_outcome_and_never_a_reward():
    metrics = metrics_of(scored_group([(Outcome.MISMATCH, 1.0), (Outcome.MATCH, 0.0)]))
    assert metrics.correct_share == 0.5


def test_zero_variance_counts_groups_with_equal_usable_rewards():
    equal = scored_group([(Outcome.MATCH, 1.0), (Outcome.MATCH, 1.0), (Outcome.INFRASTRUCTURE, None)])
    without = scored_group([(Outcome.GOLD_FAILED, None)] * 2)
    metrics = metrics_of(equal, scored_group(MIXED), without, num_dropped_groups=1)
    assert metrics.zero_variance_share == 0.5
    assert metrics.dropped_group_share == pytest.approx(1 / 3)
    assert metrics.num_groups == 3


def test_tokens_and_what_the_learner_reports():
    metrics = metrics_of(scored_group(MIXED), scored_group(MIXED))
    assert (metrics.generated_tokens, metrics.prompt_tokens, metrics.mean_completion_tokens) == (20, 6, 2.5)
    assert (metrics.truncated_share, metrics.tokens_per_s) == (0.25, 10.0)
    assert (metrics.step, metrics.kl, metrics.grad_norm, metrics.trained_tokens) == (3, None, 1.5, 40)
    assert (metrics.adapter_version, metrics.sync_bytes, metrics.step_s) == (3, 1000, 5.5)
    assert (metrics.sync_export_s, metrics.sync_install_s, metrics.sync_canary_s) == (0.01, 0.02, 0.03)
    assert (metrics.sync_canary_kl, metrics.learner_wait_s) == (0.002, 2.5)
    assert (metrics.refill_rounds, metrics.replaced_actors) == (2, 1)


def with_rollout(group, **changes):
    return replace(group, rollout=replace(group.rollout, **changes))


def of_version(group, version):
    completions = [replace(one, oldest_adapter_version=version) for one in group.rollout.completions]
    return with_rollout(group, completions=tuple(completions))


def test_staleness_is_each_groups_own_lag():
    group = scored_group(MIXED)  # consumed by step 3
    metrics = metrics_of(*(of_version(group, version) for version in (2, 0, 2, 2)))
    assert (metrics.staleness, metrics.groups_by_staleness) == (2, (3, 0, 1))
    assert metrics_of().groups_by_staleness == ()


def test_cached_prompt_share_is_over_the_candidates_of_groups_that_count():
    group = scored_group(MIXED)  # 4 candidates of 3 prompt tokens
    counted = [with_rollout(group, num_computed_prompt_tokens=number) for number in (6, 3)]
    assert metrics_of(*counted, group).cached_prompt_share == pytest.approx(1 - 9 / 24)
    assert math.isnan(metrics_of(group).cached_prompt_share)


def test_entropy_is_the_mean_surprise_of_the_numbers_there_are():
    group = scored_group(MIXED)
    completion = dataclasses.replace(group.rollout.completions[0], logprobs=(math.nan, -2.0, -4.0))
    one = dataclasses.replace(group, rollout=dataclasses.replace(group.rollout, completions=(completion,)))
    assert entropy_estimate((group,)) == 0.5
    assert entropy_estimate((one,)) == 3.0


def test_a_step_without_verdicts_has_no_means():
    metrics = metrics_of(scored_group([(Outcome.GOLD_FAILED, None)]), num_dropped_groups=1)
    assert all(math.isnan(share) for share in (metrics.reward_mean, metrics.correct_share, metrics.zero_variance_share))
    assert metrics.dropped_group_share == 1
    assert math.isnan(metrics_of().dropped_group_share)


def test_records_are_valid_json_lines_and_curves(tmp_path):
    metrics = metrics_of(scored_group(MIXED))
    with MetricsLog(tmp_path / "run", [TensorBoardCurves(tmp_path / "run")]) as log:
        log.write(metrics)
        # Readable while the run goes on.
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
        log.write(dataclasses.replace(metrics, step=4, loss=math.inf))
    with MetricsLog(tmp_path / "run", [TensorBoardCurves(tmp_path / "run")]) as log:
        log.write(dataclasses.replace(metrics, step=5))

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, second, third = (json.loads(line, parse_constant=refuse) for line in lines)
    assert (first["step"], first["loss"], first["kl"], first["logprob_mismatch_max"]) == (3, 0.5, None, None)
    assert (second["loss"], third["step"]) == (None, 5)
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    curves.Reload()
    assert {"reward_mean", "grad_norm"} <= set(curves.Tags()["tensors"])
    assert [event.step for event in curves.Tensors("reward_mean")] == [3, 4, 5]
    assert (first["staleness"], first["groups_by_staleness"]) == (1, [0, 1])
    assert [event.tensor_proto.float_val[0] for event in curves.Tensors("groups_of_staleness_1")] == [1, 1, 1]


def test_a_resumed_log_holds_each_step_once(tmp_path):
    metrics = metrics_of(scored_group(MIXED))
    position = 0
    with MetricsLog(tmp_path, [TensorBoardCurves(tmp_path)]) as log:
        for step in (1, 2, 3, 4):
            log.write(dataclasses.replace(metrics, step=step, loss=0.5))
            position = log.position if step == 2 else position
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')  # killed while it wrote
    forget_metrics_after(tmp_path, 2, position)
    with MetricsLog(tmp_path, [TensorBoardCurves(tmp_path)]) as log:
        log.write(dataclasses.replace(metrics, step=3, loss=0.25))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["step"], record["loss"]) for record in records] == [(1, 0.5), (2, 0.5), (3, 0.25)]
    curves = plugin_event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))  # what TensorBoard shows from
    curves.Reload()
    points = [(event.step, event.tensor_proto.float_val[0]) for event in curves.Tensors("loss")]
    assert points == [(1, 0.5), (2, 0.5), (3, 0.25)]


@pytest.mark.parametrize(("num_lost_bytes", "steps"), [(1, [1, 2]), (9, [1, 2]), (0, [1, 2, 3])])
def test_a_torn_last_record_goes_and_the_next_one_stands_alone(tmp_path, num_lost_bytes, steps):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + " " * 8 + "\n" for step in (1, 2, 3)))
    position = path.stat().st_size
    os.truncate(path, position - num_lost_bytes)
    said = forget_metrics_after(tmp_path, 3, position)
    assert ("lost" in said and "step 3" in said) is bool(num_lost_bytes)
    with MetricsLog(tmp_path) as log:
        log.write(dataclasses.replace(metrics_of(scored_group(MIXED)), step=4))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [*steps, 4]


@pytest.mark.parametrize("left", [None, b"", b'{"step": 1, "lo'])
def test_metrics_that_are_gone_whole_are_said_to_be_lost(tmp_path, left):
    path = tmp_path / "metrics.jsonl"
    if left is not None:
        path.write_bytes(left)
    assert "lost" in forget_metrics_after(tmp_path, 3, 500)
    assert not path.exists() or path.read_bytes() == b""


def test_progress_writes_plain_lines_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), width=40, highlight=False)
    progress = Progress(console)
    progress.phase("GRPO")
    progress.note("adapter [v1] published to /a/long/path/that/is/not/to/be/wrapped")
    figures = {"reward_mean": 0.25, "correct_share": 0.125, "tokens_per_s": 812.3}
    progress.step(step_record(1, step_s=10.0, **figures), 20)
    progress.step(step_record(2, step_s=20.0, **figures), 20)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert not any(ord(character) < 32 for line in lines for character in line)
    assert "adapter [v1] published" in lines[1]
    assert "step  2/20" in lines[3]
    assert "correct  12.5 %" in lines[3]
    assert lines[3].endswith("4 min 30 s left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (-1, "0 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
