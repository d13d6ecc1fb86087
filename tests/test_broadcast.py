"""The canary: its scale, what it lets pass, and the faults it stops; by fakes of learner and actors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from floe.cluster.loop.adapter_broadcast import PROBE_VERSION, Broadcast
from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.messages import (
    AdapterManifest,
    AdapterReceipt,
    Completion,
    GroupRequest,
    PromptWithAnswers,
    Question,
    RolloutGroup,
)
from floe.configs.errors import AdapterProofError
from tests.fake_cluster import FakeCluster

TEXT = (5, 6, 7, 8)
BASE = [-1.0, -2.0, -3.0]


def shifted(by: float) -> list[float]:
    return [value + by for value in BASE]


QUESTION = Question(question_id="long", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
LONGEST = GroupRequest(
    group_id="long",
    question=QUESTION,
    prompt_token_ids=tuple(range(500)),
    num_samples=2,
    temperature=1.0,
    max_new_tokens=16,
    seed=0,
)


def group_of(request: GroupRequest, logprobs: tuple[tuple[float, ...], ...]) -> RolloutGroup:
    completions = tuple(
        Completion(
            text="", token_ids=tuple(range(len(one))), logprobs=one, truncated=False, oldest_adapter_version=1,
            newest_adapter_version=1,
        )
        for one in logprobs
    )  # fmt: skip
    return RolloutGroup(
        group_id=request.group_id, question=request.question, prompt_token_ids=request.prompt_token_ids,
        temperature=1.0, seed=0,
        completions=completions,
    )  # fmt: skip


@dataclass
class Sides:
    """A learner and two actors; `engine` holds each version's log-probabilities, the learner's are near them."""

    noise: float = 0.01
    probe_effect: float = 3.0
    engine: dict[int | None, list[float]] = field(default_factory=dict)
    second_actor_lags: bool = False
    after_long: tuple[tuple[float, ...], ...] = ((-1.01, -2.01), (-2.99,))
    events: list[tuple] = field(default_factory=list)

    def export_adapter(self, version: int) -> AdapterManifest:
        self.events.append(("export", version))
        return FakeCluster().export_adapter(version)

    def export_probe(self, version: int) -> AdapterManifest:
        return FakeCluster().export_adapter(version)

    def canary_logprobs(self, token_ids, version=None, *, with_adapter=None):
        assert tuple(token_ids) == TEXT
        if with_adapter is not None:
            return shifted(-0.2 + self.noise) if with_adapter else shifted(self.noise)
        first = self.engine.get(version, BASE if version is None else shifted(-0.2))
        if version == PROBE_VERSION:
            first = shifted(self.probe_effect)
        return [first, BASE if self.second_actor_lags and version != PROBE_VERSION else first]

    def canary_groups(self, request: GroupRequest, adapter_version: int | None) -> list[RolloutGroup]:
        self.events.append(("long canary", adapter_version))
        return [group_of(request, self.after_long), group_of(request, self.after_long)]

    def answer_logprobs(self, text: PromptWithAnswers) -> list[list[float]]:
        self.events.append(("answers of", len(text.prompt_token_ids), text.answers))
        return [[-1.0, -2.0], [-3.0]]

    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]:
        self.events.append(("install", manifest.version))
        return []

    def acquire(self) -> None:
        self.events.append(("acquire",))

    def release(self) -> None:
        self.events.append(("release",))


def test_publishing_exports_once_installs_that_version_and_measures_the_difference():
    sides = Sides()
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT)
    sides.events.clear()
    published = broadcast.publish(4)
    handover = [("release",), ("acquire",)]
    assert sides.events == [*handover, ("export", 4), *handover, ("install", 4)]
    assert published.manifest.version == 4
    assert published.canary_kl == pytest.approx(math.expm1(0.01) - 0.01)


def test_the_limit_lies_between_noise_and_effect():
    sides = Sides(noise=0.01, probe_effect=4.0)
    scale = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT).scale
    assert (scale.noise, scale.effect) == (pytest.approx(0.01), pytest.approx(4.0))
    assert scale.limit == pytest.approx(0.2)


@pytest.mark.parametrize("sides", [Sides(probe_effect=0.05), Sides(noise=0.5), Sides(noise=math.nan)])
def test_a_probe_that_does_not_stand_out_stops_the_run(sides):
    with pytest.raises(AdapterProofError, match="can't tell an adapter from none"):
        Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT)


@pytest.mark.parametrize("found", [shifted(2.0), [math.nan] * 3])
def test_an_engine_that_computes_something_else_stops_the_run(found):
    sides = Sides(engine={2: found})
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT)
    broadcast.publish(1)
    with pytest.raises(AdapterProofError, match=r"version 2.*rollout actor 0"):
        broadcast.publish(2)


def test_every_actor_is_looked_at():
    sides = Sides(second_actor_lags=True)
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT)
    with pytest.raises(AdapterProofError, match="rollout actor 1"):
        broadcast.publish(1)


def test_on_the_longest_prompt_each_actor_generates_and_the_learner_follows():
    sides = Sides()
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT, LONGEST)
    sides.events.clear()
    broadcast.prove_on_longest(4)
    handover = [("release",), ("acquire",)]
    answers = ("answers of", 500, ((0, 1), (0,)))
    assert sides.events == [("long canary", 4), *handover, answers, answers, *handover]


@pytest.mark.parametrize("found", [((-1.0, -9.0), (-3.0,)), ((-1.0, math.nan), (-3.0,))])
def test_an_engine_that_is_another_only_after_a_long_prompt_stops_the_run(found):
    """A window that one side leaves out shows only beyond it: the short canary agrees."""
    sides = Sides(after_long=found)
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT, LONGEST)
    broadcast.publish(4)
    with pytest.raises(AdapterProofError, match=r"version 4: after 500 tokens, rollout actor 0"):
        broadcast.prove_on_longest(4)


def test_without_a_long_prompt_nothing_is_proved_on_one():
    sides = Sides()
    broadcast = Broadcast(sides, sides, DeviceTurns(sides, sides), TEXT)
    sides.events.clear()
    broadcast.prove_on_longest(1)
    assert sides.events == []
