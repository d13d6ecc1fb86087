"""An engine that schedules its steps ahead of the tokens, as on a GPU, does what one does that waits: to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.command_line import REPOSITORY
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.long]


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    from floe.cluster.ray_actors.placement import engine_environment
    from floe.configs.files.loading import load_config

    folder = tmp_path_factory.mktemp("tiny-llama")
    # Heads of 32, for which vLLM has kernels on a CPU.
    save_tiny_llama(folder, hidden_size=128, intermediate_size=128, initializer_range=0.2, bos_token_id=None)
    save_word_tokenizer(folder, 64)
    environment = {**os.environ, **engine_environment(load_config(None, ["rollout.num_threads=1"]))}

    def run(schedule: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine_course", schedule, str(folder)],
            cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return {schedule: run(schedule) for schedule in ("sync", "async")}


def test_both_schedulers_ran_and_one_left_a_batch_in_flight(courses):
    assert {name: course["scheduler"] for name, course in courses.items()} == {
        "sync": "Scheduler",
        "async": "AsyncScheduler",
    }
    assert courses["sync"]["in_flight"] == 0 < courses["async"]["in_flight"]


@pytest.mark.parametrize("schedule", ["sync", "async"])
def test_the_engine_sleeps_after_groups_that_ended_in_every_way_and_wakes_with_its_adapter(courses, schedule):
    course = courses[schedule]
    assert course["in_flight_asleep"] == course["in_flight_installed"] == 0
    assert course["woken"] == course["digests"][:1]
    first, again, other_adapter = course["groups"]
    assert again == first  # what was broken off has left nothing
    assert all(group["tokens"] != other["tokens"] for group, other in zip(first, other_adapter, strict=True))
    truncated = [one for group in first for one in group["truncated"]]
    assert set(truncated) == {True, False}
    assert course["unasked_counts"] == 0


@pytest.mark.parametrize("schedule", ["sync", "async"])
def test_a_prompt_is_computed_once_where_its_leader_is_still_there(courses, schedule):
    """One that waits for tokens knows that the first candidate ended with its first token: another computes a rest."""
    course = courses[schedule]
    for groups in course["groups"]:
        for group, num_tokens in zip(groups, course["num_prompt_tokens"], strict=True):
            at_once = schedule == "sync" and len(group["tokens"][0]) == 1
            least = num_tokens + len(group["tokens"]) - 1
            assert group["num_computed"] > least if at_once else group["num_computed"] == least


def test_candidates_and_canary_are_the_same_to_the_bit(courses):
    ahead, waiting = courses["async"], courses["sync"]
    for name in ("tokens", "logprobs", "truncated"):
        for groups, others in zip(ahead["groups"], waiting["groups"], strict=True):
            assert [group[name] for group in groups] == [group[name] for group in others]
    assert ahead["canary"] == waiting["canary"]
