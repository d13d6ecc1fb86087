"""The learner's work as it is counted without memory: against real tensors, a model of full depth, other lengths."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from cluster.embedded_models import SMOLLM2, TINY_QWEN2
from cluster.memory_plan.learner_on_meta import (
    DEPTH,
    as_on_gpu,
    counted,
    loss_of,
    measured_update,
    measured_work,
    on_meta,
    one_group,
    policy_on_meta,
    short_groups,
)
from cluster.memory_plan.live_bytes import LiveBytes
from cluster.memory_plan.published import PUBLISHED, QWEN
from cluster.memory_plan.work import Point, WorkLine
from configs.loading import load_config
from configs.schema import RunConfig
from learner.families.output_head import OutputHead
from learner.packing import Pack
from learner.policy import with_adapter
from learner.shared_prefix_attention import NAME
from tests.command_line import REPOSITORY

SHORT_TEXTS = ("model.max_context_tokens=1024", "rollout.max_new_tokens=256", "learner.max_pack_tokens=1024")
SIZES = ("0.5B", "1.5B", "3B", "7B")
MAX_DEVIATION = 0.05


def config_of(*changes: str) -> RunConfig:
    given = ("data.questions=q.json", "data.databases=d", "model.dtype=bfloat16", "rollout.dtype=bfloat16")
    return load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [*given, *changes])


def model_config(name: str, **changes: int) -> PreTrainedConfig:
    return AutoConfig.for_model(**(asdict(PUBLISHED[name]) | changes), max_position_embeddings=2**17)


def counted_update(
    config: RunConfig, model: PreTrainedConfig, pack: Pack, checkpointing: bool, depth: int = DEPTH
) -> Point:
    policy = policy_on_meta(config, model, checkpointing, 0.0, depth)
    pack = on_meta(pack)
    with counted(policy, [pack]) as live, as_on_gpu():
        return measured_update(policy, pack, DEPTH if depth != DEPTH else model.num_hidden_layers, live)


def real_peak_bytes(config: RunConfig, model: PreTrainedConfig, pack: Pack, checkpointing: bool, folder: Path) -> int:
    """By the records that PyTorch's profiler makes of its allocator."""
    base = AutoModelForCausalLM.from_config(model, dtype=torch.bfloat16, attn_implementation=NAME)
    base.output_head = OutputHead(base, is_plain=True)
    policy = with_adapter(
        base, config.lora, dropout=0.0, initial=None, with_reference=False, gradient_checkpointing=checkpointing
    )
    policy.to(dtype=torch.bfloat16).train()
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        loss_of(policy, pack).backward()
    records.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = sorted((one["ts"], one["args"]["Bytes"]) for one in events if one.get("name") == "[memory]")
    now = peak = 0
    for _, num_bytes in changes:
        now += num_bytes
        peak = max(peak, now)
    return peak


HEAVY = pytest.mark.heavy


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["long", pytest.param("short", marks=HEAVY)])
def test_what_is_counted_without_memory_is_what_real_tensors_take(kind, checkpointing, tmp_path):
    config, model = config_of(), model_config(TINY_QWEN2)
    pack = one_group(3000, 16) if kind == "long" else short_groups(2, 16, model.num_attention_heads)
    real = real_peak_bytes(config, model, pack, checkpointing, tmp_path)
    assert counted_update(config, model, pack, checkpointing).peak_bytes == pytest.approx(real, rel=MAX_DEVIATION)


@pytest.mark.long
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["long", "short"])
def test_the_same_of_smollm2(kind, checkpointing, tmp_path):
    config, model = config_of(), model_config(SMOLLM2)
    pack = one_group(1500, 16) if kind == "long" else short_groups(1, 16, model.num_attention_heads)
    real = real_peak_bytes(config, model, pack, checkpointing, tmp_path)
    assert counted_update(config, model, pack, checkpointing).peak_bytes == pytest.approx(real, rel=MAX_DEVIATION)


@pytest.mark.parametrize("checkpointing", [True, pytest.param(False, marks=HEAVY)])
def test_three_layers_tell_what_all_take(checkpointing):
    config, model = config_of(), model_config(SMOLLM2, num_hidden_layers=6)
    for pack in (one_group(4096, 16), short_groups(2, 16, model.num_attention_heads)):
        whole = counted_update(config, model, pack, checkpointing, depth=6)
        shallow = counted_update(config, model, pack, checkpointing)
        assert shallow.peak_bytes == pytest.approx(whole.peak_bytes, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
def test_three_layers_tell_what_all_of_qwen_take(size):
    config, model = config_of(), model_config(f"{QWEN}-{size}")
    whole = counted_update(config, model, one_group(8192, 16), True, depth=model.num_hidden_layers)
    assert counted_update(config, model, one_group(8192, 16), True).peak_bytes == pytest.approx(
        whole.peak_bytes, rel=0.01
    )


def test_packs_of_other_lengths_lie_on_the_lines():
    config, model = config_of(), model_config(TINY_QWEN2)
    few, many = (counted_update(config, model, one_group(num, 16), True) for num in (4096, 6144))
    line = WorkLine(few=few, many=many)
    for num_tokens in (5000, 12_288):
        found = counted_update(config, model, one_group(num_tokens, 16), True)
        assert line.at(num_tokens).num_bytes == pytest.approx(found.peak_bytes, rel=0.02)


@HEAVY
def test_a_warm_start_keeps_what_dropout_drew():
    config, model = config_of("learner.gradient_checkpointing=false", *SHORT_TEXTS), model_config(TINY_QWEN2)
    work = measured_work(config, model)
    learning, warm_start = work.learning(config, 1024), work.warm_start(config, 1024)
    # Of seven inputs a mask of bytes, but for three of the first layer; and three copies more in bfloat16, since q, k and v
    # share an input without dropout, and so do gate and up.
    masks = 2 * (6 * model.hidden_size + model.intermediate_size) - 3 * model.hidden_size
    drawn = 1024 * (masks + 2 * 3 * model.hidden_size * 2)
    assert warm_start.kept_activations - learning.kept_activations == pytest.approx(drawn, rel=0.02)


def test_the_models_own_forward_is_counted_with_its_scores():
    config = config_of(*SHORT_TEXTS)
    found = measured_work(config, model_config(TINY_QWEN2)).own_forward(config)
    assert found.num_bytes >= 4 * 4 * 1024**2  # float32 scores of four heads


def test_a_model_whose_layers_are_not_alike_is_not_counted():
    windowed = AutoConfig.for_model("mistral", hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    assert measured_work(config_of(), windowed) is None


def test_bytes_are_those_that_live_at_one_time():
    with LiveBytes([], 512) as live:
        kept = torch.zeros(1000, dtype=torch.uint8)
        for _ in range(3):
            torch.zeros(5000, dtype=torch.uint8)
        view = kept[10:]
        assert (live.num_bytes, live.peak_bytes) == (1024, 1024 + 5120)
        del kept
        assert live.num_bytes == 1024
        del view
        assert live.num_bytes == 0


def test_what_was_there_before_does_not_count():
    before = torch.zeros(1000)
    with LiveBytes([before]) as live:
        before.add_(1)
        before[3:].mul_(2)
        assert live.peak_bytes == 0
