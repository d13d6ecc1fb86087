"""A real run that draws by its own pass rates, in unequal groups, whole and broken off: the same to the bit."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from floe.cluster.soak.run_records import difference
from tests.test_resume import LIMIT_S, floe, records, started

pytestmark = [pytest.mark.engine, pytest.mark.long]

BY_POSTERIOR = (
    "data.sampler=posterior", "data.max_train_questions=6", "rollout.group_size=8", "rollout.min_group_size=2",
    "rollout.max_group_size=14", "rollout.max_staleness=1", "run.keep_checkpoints=1", "algorithm.kl_coefficient=0.0",
    "algorithm.max_refill_rounds=1",
)  # fmt: skip


def sizes(run_dir) -> dict[int, list[int]]:
    with closing(sqlite3.connect(run_dir / "rollouts.sqlite")) as log:
        rows = log.execute("SELECT step, count(*) FROM rollouts GROUP BY step, group_index ORDER BY step, group_index")
        found: dict[int, list[int]] = {}
        for step, size in rows:
            found.setdefault(step, []).append(size)
    return found


def test_a_run_by_posterior_goes_on_with_the_same_questions_in_the_same_sizes(other_home, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = [*started(whole), *BY_POSTERIOR]
    assert floe(whole, other_home, *options).wait(timeout=LIMIT_S) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    of_steps = sizes(whole)
    assert all(sum(step[:2]) == 16 for step in of_steps.values())
    assert any(step[0] != step[1] for step in of_steps.values())
    drawn = records(whole)
    assert [one["draw_num_never_drawn"] for one in drawn] == sorted(
        (one["draw_num_never_drawn"] for one in drawn), reverse=True
    )
    assert any(one["draw_variance_expected"] != one["draw_variance_uniform"] for one in drawn)
    assert [max(of_steps[one["step"]]) for one in drawn] == [one["draw_largest_group"] for one in drawn]
    options[options.index(str(whole))] = str(broken)
    assert floe(broken, other_home, *options, kill="installing:3").wait(timeout=LIMIT_S) == -signal.SIGKILL
    assert floe(broken, other_home, "--resume", str(broken)).wait(timeout=LIMIT_S) == 0
    found = difference(whole, broken)
    assert (found.num_lost, found.num_doubled, found.adapter) == (0, 0, 0)
    # What the reward workers counted until a step's record may be of the next step, which is generated ahead.
    assert set(found.metric_names) <= {"reward_folded_scores"}, found.examples
