"""`floe bench memory`: the sampler sees a peak, unknown shapes are refused, and the small model is as planned."""

import json
import os
import time

import numpy as np
import psutil
import pytest

from floe.cluster.bench import memory_bench
from floe.cluster.bench.learner.peak_memory import ResidentPeak
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.memory_plan.shapes.published import PUBLISHED
from floe.cluster.precision.resolved import with_precision
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config

MIB = 2**20


def test_a_peak_that_has_passed_is_seen():
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    with ResidentPeak(lambda: process) as peak:
        held = np.ones(300 * MIB, dtype=np.uint8)
        deadline_s = time.monotonic() + 300
        while peak.num_bytes < before + held.nbytes * 0.9 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        del held
    assert before + 250 * MIB < peak.num_bytes < before + 600 * MIB


def test_a_shape_that_is_not_measured_is_refused():
    with pytest.raises(UserError, match="--shape is 'Llama'"):
        memory_bench.bench_memory(load_config(None), ["Llama"], as_json=True)


def test_every_shape_has_its_dimensions():
    assert set(memory_bench.SHAPES.values()) <= PUBLISHED.keys()


@pytest.mark.engine
@pytest.mark.soak
def test_the_small_model_holds_what_is_planned(capsys, other_home):
    """Test in the precision that this machine computes fast: the other takes minutes, and a plan holds for either."""
    given = [f"run.home={other_home}", "cluster.address=local", "model.dtype=auto", "rollout.dtype=auto"]
    config = load_config(None, [*memory_bench.BENCH_OVERRIDES, *given])
    decided = with_precision(config, lambda: shape_of(config)).config
    memory_bench.bench_memory(decided, ["SmolLM2-135M"], as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["role"] for row in rows] == ["engine", "learner"]
    for row in rows:
        assert row["is_within"], row
        assert row["ratio"] == pytest.approx(row["planned_bytes"] / row["measured_bytes"])
