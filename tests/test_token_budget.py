"""A run that ends at its number of generated tokens, not at its number of steps."""

from __future__ import annotations

import json

from floe.cluster.loop.token_budget import TokenBudget, tokens_generated
from floe.cluster.run_folder.file_names import METRICS_FILE
from tests.fake_cluster import FakeCluster, names_of_step, run


def steps_of(cluster: FakeCluster) -> list[int]:
    return [event[1] for event in cluster.events if event[0] == "checkpoint"]


def tokens_of_a_step() -> int:
    budget = TokenBudget(10**9)
    cluster = run(FakeCluster(), num_steps=1)
    budget.spend(cluster.trained[1])
    return budget.num_spent


def test_the_step_that_reaches_the_budget_is_the_last_and_has_a_checkpoint():
    a_step = tokens_of_a_step()
    cluster = run(FakeCluster(), num_steps=5, max_tokens=2 * a_step)
    assert steps_of(cluster) == [1, 2]
    assert cluster.last_steps == [2]
    assert steps_of(run(FakeCluster(), num_steps=5, max_tokens=2 * a_step + 1)) == [1, 2, 3]


def test_without_a_budget_the_steps_decide():
    cluster = run(FakeCluster(), num_steps=3)
    assert steps_of(cluster) == [1, 2, 3]
    assert cluster.last_steps == [3]
    assert names_of_step(1)


def test_a_run_that_goes_on_counts_what_it_generated_before(tmp_path):
    assert tokens_generated(tmp_path) == 0
    lines = [json.dumps({"step": step, "generated_tokens": 10 * step}) for step in (1, 2)]
    (tmp_path / METRICS_FILE).write_text("\n".join(lines) + "\n")
    assert tokens_generated(tmp_path) == 30
    assert TokenBudget(30, tokens_generated(tmp_path)).is_spent
    assert not TokenBudget(31, tokens_generated(tmp_path)).is_spent
