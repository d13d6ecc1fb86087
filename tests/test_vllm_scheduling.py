"""Prompt sharing in vLLM's own schedulers, that which waits for tokens and that which doesn't, without an engine."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.engine

NUM_SAMPLES = 4
PROMPTS = {"a": list(range(100, 140)), "b": list(range(300, 373)), "c": list(range(500, 509))}
ENDS = {f"{name}{index}": 1 + 3 * place + index for place, name in enumerate(PROMPTS) for index in range(NUM_SAMPLES)}


@pytest.fixture
def worker(tmp_path):
    from floe.actors.engine.vllm_prompt_sharing import PromptSharing
    from tests.fake_worker import FakeWorker

    PromptSharing._num_computed.clear()
    return lambda is_async, **options: FakeWorker(tmp_path, is_async, **options)


def ask(worker, num_tokens: int = 32) -> None:
    for name, prompt in PROMPTS.items():
        for index in range(NUM_SAMPLES):
            worker.ask(f"{name}{index}", prompt, index, num_tokens)


def wanted(num_tokens: int, ends: dict[str, int]) -> dict[str, list[int]]:
    from tests.fake_worker import END, token_of

    tokens = {}
    for name in (f"{prompt}{index}" for prompt in PROMPTS for index in range(NUM_SAMPLES)):
        length = ends.get(name, num_tokens)
        tokens[name] = [END if number + 1 == ends.get(name) else token_of(name, number) for number in range(length)]
    return tokens


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("ends", [{}, ENDS, {"a0": 1, "b2": 5, "c3": 31}], ids=["limit", "stop", "both"])
def test_the_cache_can_be_given_up_as_soon_as_all_have_finished(worker, is_async, ends):
    """The engine's sleep does this, and raises where vLLM still holds blocks of a finished request."""
    one = worker(is_async)
    ask(one)
    assert dict(one.run(ends)) == wanted(32, ends)
    assert one.scheduler.reset_prefix_cache(reset_running_requests=True, reset_connector=True)
    one.drain()
    assert not one.scheduler.has_requests()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("num_batched_tokens", [16, 24, 50, 2048])
def test_a_prompt_that_takes_several_steps_is_computed_once_and_copied_whole(worker, is_async, num_batched_tokens):
    from floe.actors.engine.vllm_prompt_sharing import PromptSharing

    one = worker(is_async, num_batched_tokens=num_batched_tokens)
    ask(one)
    assert dict(one.run()) == wanted(32, {})
    for prompt in PROMPTS.values():
        assert PromptSharing.take_num_computed(0, tuple(prompt)) == len(prompt) + NUM_SAMPLES - 1
    assert one.num_computed == sum(len(prompt) + NUM_SAMPLES - 1 for prompt in PROMPTS.values())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("num_batched_tokens", [24, 2048])
def test_who_loses_its_blocks_and_gets_others_goes_on_as_if_nothing_had_been(worker, is_async, num_batched_tokens):
    from floe.actors.engine.vllm_prompt_sharing import PromptSharing

    one = worker(is_async, num_batched_tokens=num_batched_tokens, num_blocks=24)
    ask(one)
    requests = dict(one.scheduler.requests)
    assert dict(one.run()) == wanted(32, {})
    assert any(request.num_preemptions for request in requests.values())
    counted = sum(PromptSharing.take_num_computed(0, tuple(prompt)) for prompt in PROMPTS.values())
    assert counted == one.num_computed
    assert one.num_sampled == 32 * len(requests)  # what was under way is not sampled again


def test_a_leader_that_is_given_up_between_its_steps_leaves_its_place_and_no_count(worker):
    from vllm.v1.request import RequestStatus

    from floe.actors.engine.vllm_prompt_sharing import PromptSharing

    one = worker(True, num_batched_tokens=16)
    ask(one)
    one._launch({})
    one.scheduler.finish_requests([f"a{index}" for index in range(NUM_SAMPLES)], RequestStatus.FINISHED_ABORTED)
    assert PromptSharing.take_num_computed(0, tuple(PROMPTS["a"])) == 16
    assert dict(one.run()) == {name: tokens for name, tokens in wanted(32, {}).items() if name[0] != "a"}
    assert PromptSharing.take_num_computed(0, tuple(PROMPTS["a"])) == 0
