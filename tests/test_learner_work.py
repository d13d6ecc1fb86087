"""The learner's work as it is counted without memory: against real tensors, a model of full depth, other lengths."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

from floe.cluster.memory_plan.learner.learner_on_meta import (
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
from floe.cluster.memory_plan.learner.live_bytes import LiveBytes
from floe.cluster.memory_plan.learner.work import Point, WorkLine
from floe.cluster.memory_plan.shapes.model_config import model_config_of
from floe.cluster.memory_plan.shapes.published import PUBLISHED, QWEN
from floe.cluster.models.model_folder import SMOLLM2, TINY_QWEN2
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.learner.device_kind import CPU, GPU, decisions_for
from floe.learner.families.output_head import OutputHead
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs
from floe.learner.policy.policy import packed_logprobs, with_adapter
from floe.learner.policy.shared_prefix_attention import NAME
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
    config: RunConfig,
    model: PreTrainedConfig,
    pack: Pack,
    checkpointing: bool,
    depth: int = DEPTH,
    dropout: float = 0.0,
    kind: str = GPU,
) -> Point:
    policy = policy_on_meta(config, model, checkpointing, dropout, depth)
    pack = on_meta(pack)
    with counted(policy, [pack]) as live, as_on_gpu(), decisions_for(kind):
        return measured_update(policy, pack, DEPTH if depth != DEPTH else model.num_hidden_layers, live)


def pack_of(kind: str, num_tokens: int, num_groups: int, model: PreTrainedConfig) -> Pack:
    if kind == "long":
        return one_group(num_tokens, 16)
    if kind == "short":
        return short_groups(num_groups, 16, model.num_attention_heads)
    branch = Branch(token_ids=(5,) * 100, weight=0.1, advantage=0.1, engine_logprobs=(0.0,) * 100)
    (pack,) = make_packs([PrefixGroup(prefix_ids=(7,) * num_tokens, branches=(branch,) * 2)], 2 * num_tokens)
    return pack


def real_peak_bytes(config: RunConfig, model: PreTrainedConfig, pack: Pack, checkpointing: bool, folder: Path) -> int:
    """Return the peak by the records that PyTorch's profiler makes of its allocator."""
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
@pytest.mark.parametrize("kind", ["long", "prompt", pytest.param("short", marks=HEAVY)])
def test_what_is_counted_without_memory_is_what_real_tensors_take(kind, checkpointing, tmp_path):
    config, model = config_of(), model_config(TINY_QWEN2)
    pack = pack_of(kind, 3000, 2, model)
    real = real_peak_bytes(config, model, pack, checkpointing, tmp_path)
    found = counted_update(config, model, pack, checkpointing, kind=CPU)
    assert found.peak_bytes == pytest.approx(real, rel=MAX_DEVIATION)


@pytest.mark.long
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["long", "short"])
def test_the_same_of_smollm2(kind, checkpointing, tmp_path):
    config, model = config_of(), model_config(SMOLLM2)
    pack = pack_of(kind, 1500, 1, model)
    real = real_peak_bytes(config, model, pack, checkpointing, tmp_path)
    found = counted_update(config, model, pack, checkpointing, kind=CPU)
    assert found.peak_bytes == pytest.approx(real, rel=MAX_DEVIATION)


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
    config, model = config_of(), model_config(TINY_QWEN2)
    without, drawn_too = (
        counted_update(config, model, one_group(4096, 16), False, dropout=share) for share in (0, 0.05)
    )
    # Of seven inputs a mask of bytes, but for three of the first layer; and three or more copies in bfloat16 beyond the
    # inputs that are kept without dropout, which q, k and v share, and gate and up.
    masks = 2 * (6 * model.hidden_size + model.intermediate_size) - 3 * model.hidden_size
    least_bytes = 4096 * (masks + 2 * 3 * model.hidden_size * 2)
    assert 0.98 * least_bytes < drawn_too.kept_bytes - without.kept_bytes < 1.25 * least_bytes


def test_the_models_own_forward_is_counted_with_its_scores():
    config = config_of(*SHORT_TEXTS)
    found = measured_work(config, model_config(TINY_QWEN2)).own_forward(config)
    assert found.num_bytes >= 4 * 4 * 1024**2  # float32 scores of four heads


def test_a_model_whose_layers_are_not_alike_is_not_counted():
    windowed = AutoConfig.for_model("mistral", hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    assert measured_work(config_of(), windowed) is None


def test_a_canary_takes_less_than_an_update():
    config, model = config_of(), model_config(TINY_QWEN2)
    pack = on_meta(one_group(4096, 2))
    policy = policy_on_meta(config, model, True, 0.0)
    with torch.no_grad(), counted(policy, [pack]) as live, as_on_gpu():
        packed_logprobs(policy, pack, 1.0)
    assert live.peak_bytes < counted_update(config, model, one_group(4096, 2), True).peak_bytes


def test_a_model_of_ones_own_is_counted_from_its_folder(tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5, "vocab_size": 100}
    LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2).save_pretrained(tmp_path)
    config = config_of(f"model.path={tmp_path}", *SHORT_TEXTS)
    work = measured_work(config, model_config_of(config))
    assert work is not None and work.learning(config, 1024).num_bytes > 5 * 1024 * 64 * 2


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
