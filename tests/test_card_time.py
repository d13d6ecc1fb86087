"""The time of a run on a card by name: published peaks, assumed shares, what a proof measured, and who is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from floe.cluster.machine.card_figures import CardFigures, figures_file, figures_of, write_figures
from floe.cluster.memory_plan.shapes.published import published_shape
from floe.cluster.time_plan.card_time import (
    DECODE_PASS_S,
    ENGINE_BANDWIDTH_SHARE,
    ENGINE_PEAK_SHARE,
    HOST_BYTES_PER_S,
    LEARNER_PEAK_SHARE,
    PACK_LAYER_S,
    MeasuredSpeed,
    assumptions,
    plan_on_card,
)
from floe.cluster.time_plan.measured_speed import read_speed
from floe.cluster.time_plan.named_cards import NAMED_CARDS, config_for, named_card
from floe.cluster.time_plan.plan import TimePlan, forward_flop, update_flop
from floe.cluster.time_plan.tokens import RunTokens, TextLengths, run_tokens
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

MODEL = "Qwen/Qwen2.5-Coder-3B-Instruct"
SHAPE = published_shape(MODEL)
LENGTHS = TextLengths(prompt_tokens=600, answer_tokens=50)
SPEED = MeasuredSpeed(matmul_flop_per_s=200e12, learner_share=0.4, measured_on="2026-05-01")


def config_of(*overrides: str) -> RunConfig:
    gpus = "rollout.num_gpus=0.5", "learner.num_gpus=0.5"
    types = f"model.path={MODEL}", "model.dtype=bfloat16", "rollout.dtype=bfloat16", "model.max_context_tokens=2048"
    small = "rollout.questions_per_step=8", "rollout.max_new_tokens=512", "rollout.max_num_seqs=64"
    rest = "warm_start.enabled=false", "evaluation.enabled=false", "run.num_steps=10"
    return load_config(None, [*gpus, *types, *small, *rest, *overrides])


def tokens_of(config: RunConfig) -> RunTokens:
    return run_tokens(config, LENGTHS, None, num_evaluated=0)


def plan_of(key: str, *overrides: str, speed: MeasuredSpeed | None = None, takes_turns: bool = False) -> TimePlan:
    config = config_of(*overrides)
    return plan_on_card(config, SHAPE, named_card(key), tokens_of(config), speed=speed, takes_turns=takes_turns)


def test_an_update_is_its_operations_at_the_assumed_share_of_the_peak():
    config = config_of("algorithm.kl_coefficient=0", "learner.gradient_checkpointing=false")
    update = tokens_of(config).update
    num_packs = math.ceil(update.num_tokens / config.learner.max_pack_tokens)
    by_hand = update_flop(SHAPE, config, update) / (LEARNER_PEAK_SHARE * 312e12) + num_packs * 36 * PACK_LAYER_S
    found = plan_of("a100-40g", "algorithm.kl_coefficient=0", "learner.gradient_checkpointing=false")
    assert found.learning_s == pytest.approx(by_hand)


def test_generation_reads_weights_and_cache_in_every_pass():
    config = config_of()
    asked = tokens_of(config).step
    passes = asked.num_sequences * asked.mean_tokens / 64 + 512 - asked.mean_tokens
    cached_bytes = 64 * (600 + asked.mean_tokens / 2) * 36_864
    pass_s = (6_171_877_376 + cached_bytes) / (ENGINE_BANDWIDTH_SHARE * 600e9) + DECODE_PASS_S
    prompts_s = 8 * 600 * forward_flop(SHAPE) / (ENGINE_PEAK_SHARE * 125e12)
    assert plan_of("a10").generation_s == pytest.approx(prompts_s + passes * pass_s)


def test_several_engines_and_ranks_share_the_work():
    one = plan_of("h100", "learner.num_gpus=1", "rollout.num_gpus=1")
    many = plan_of("h100", "learner.num_gpus=1", "rollout.num_gpus=1", "learner.num_ranks=4", "rollout.num_actors=4")
    assert many.learning_s == pytest.approx(one.learning_s / 4) and many.generation_s < one.generation_s


def test_taking_turns_costs_the_weights_way_to_the_host_and_back():
    difference = plan_of("a10", takes_turns=True).rest_s - plan_of("a10").rest_s
    assert difference == pytest.approx(2 * 6_171_877_376 / HOST_BYTES_PER_S)


def test_the_whole_is_the_sum_of_its_parts_and_a_faster_card_is_faster():
    plans = [plan_of(key) for key in ("l4", "a10", "a100-40g", "h100")]
    assert [plan.num_steps for plan in plans] == [10] * 4
    for plan in plans:
        assert plan.whole_s == pytest.approx(plan.start_s + 10 * (plan.generation_s + plan.learning_s + plan.rest_s))
    assert [plan.whole_s for plan in plans] == sorted((plan.whole_s for plan in plans), reverse=True)
    h100, h200 = plan_of("h100"), plan_of("h200")
    assert h100.learning_s == h200.learning_s and h200.generation_s < h100.generation_s  # more bandwidth alone


def test_what_a_proof_measured_takes_the_place_of_the_assumed_share():
    config = config_of()
    update = tokens_of(config).update
    passes = 1.5 + 0.5 * config.learner.gradient_checkpointing  # the reference of the KL term
    found = plan_of("a100-40g", speed=SPEED)
    assert found.learning_s == pytest.approx(update_flop(SHAPE, config, update) * passes / (0.4 * 200e12))
    assert found.generation_s == plan_of("a100-40g").generation_s
    card = named_card("a100-40g")
    assumed, measured = (assumptions(card, config, speed)[0] for speed in (None, SPEED))
    assert "30% of a peak of 312 TFLOP/s in bfloat16" in assumed
    assert "40% of 200 TFLOP/s, measured by make prove-gpu on 2026-05-01" in measured


def test_a_proofs_file_is_read_under_the_drivers_name(tmp_path):
    card = named_card("a100-40g")
    assert read_speed(tmp_path, card) is None
    values = {"matmul_flop_per_s": 200e12, "learner_rate_share": 0.4}
    write_figures(tmp_path, figures_of("NVIDIA A100-PCIE-40GB", values))
    found = read_speed(tmp_path, card)
    assert (found.matmul_flop_per_s, found.learner_share) == (200e12, 0.4)
    assert read_speed(tmp_path, named_card("a10")) is None
    write_figures(tmp_path, CardFigures(card="NVIDIA A10", nccl_bytes=5))  # a proof without that part
    assert read_speed(tmp_path, named_card("a10")) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"matmul_flop_per_s": "fast", "learner_rate_share": 0.3}'])
def test_a_file_that_holds_something_else_is_a_sentence(tmp_path, text):
    path = figures_file(tmp_path, "NVIDIA A10")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"does not hold what was measured on a GPU .* 'make prove-gpu'\."):
        read_speed(tmp_path, named_card("a10"))


def test_every_card_has_a_name_of_its_own_a_size_and_peaks_with_a_source():
    assert [card.key for card in NAMED_CARDS] == [
        "t4", "a10", "l4", "3090", "4090", "5090", "a100-40g", "a100-80g", "h100", "h200",
    ]  # fmt: skip
    for card in NAMED_CARDS:
        assert card.usable_bytes > 14 * 2**30 and card.bytes_per_s >= 300e9 and card.source and card.driver_names
        assert card.flop_per_s("float32") < (card.bfloat16_flop_per_s or math.inf)
    files = [figures_file(Path(), name) for card in NAMED_CARDS for name in card.driver_names]
    assert len(set(files)) == len(files)
    assert named_card("A100-40G").usable_bytes == int(39.38 * 2**30)


def test_an_unknown_card_is_answered_with_those_that_are_known():
    with pytest.raises(UserError, match=r"--device is 'a1000'.*one of t4, a10, .* with --gpu-memory\."):
        named_card("a1000")


def test_a_card_without_bfloat16_is_planned_in_float32_or_refused():
    t4 = named_card("t4")
    config = config_for(t4, config_of("model.dtype=auto", "rollout.dtype=auto"))
    assert (config.model.dtype, config.rollout.dtype) == ("float32", "float32")
    with pytest.raises(UserError, match=r"model\.dtype is bfloat16, which a T4 lacks: set model\.dtype=float32"):
        config_for(t4, config_of())
    assert config_for(named_card("a10"), config_of()) == config_of()


def test_a_run_without_gpus_is_refused_with_what_to_set():
    with pytest.raises(UserError, match=r"asks for no GPU: set .* rollout\.num_gpus=0\.5 learner\.num_gpus=0\.5"):
        config_for(named_card("a10"), RunConfig())


def test_the_plan_is_plain_data():
    plan = plan_of("h200")
    assert TimePlan.from_json(plan.to_json()) == plan and json.loads(plan.to_json())["slowdown"] == 1.0
