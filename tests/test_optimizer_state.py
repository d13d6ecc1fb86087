"""Files of optimiser states: read as they were written, refused in one sentence when they are not that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.configs.errors import UserError
from floe.learner.optimizer.optimizer_state import (
    OptimizerState,
    StateLayout,
    apply_state,
    layout_of,
    read_state,
    write_state,
)


def trained(num_updates: int, shape: tuple[int, ...] = (3, 2)) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    torch.manual_seed(7)
    module = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.randn(shape)) for name in ("lora_A", "lora_B")})
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for number in range(num_updates):
        for parameter in module.parameters():
            parameter.grad = torch.full(shape, 1.0 + number)
        optimizer.step()
    return module, optimizer


def layout(module: torch.nn.Module, **changes) -> StateLayout:
    return replace(layout_of(module, rank=0, num_ranks=1, zero_stage=2), **changes)


def written(folder: Path, num_updates: int = 4) -> Path:
    module, optimizer = trained(num_updates)
    write_state(folder, layout(module), optimizer, num_steps_done=2)
    return layout(module).path_in(folder)


def same(one: OptimizerState, other: OptimizerState) -> bool:
    counts = [(state.num_updates, state.num_steps_done, sorted(state.tensors)) for state in (one, other)]
    return counts[0] == counts[1] and all(torch.equal(one.tensors[n], other.tensors[n]) for n in one.tensors)


@pytest.mark.parametrize("num_updates", [0, 4])
def test_a_state_is_read_as_it_was_written(tmp_path, num_updates):
    written(tmp_path, num_updates)
    module, optimizer = trained(num_updates)
    fresh, other = trained(1)
    state = read_state(tmp_path, layout(fresh), other)
    assert (state.num_updates, state.num_steps_done) == (num_updates, 2)
    apply_state(other, state)
    for one, two in zip(module.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two)
        one.grad = two.grad = torch.ones_like(one)
    optimizer.step()
    other.step()
    for one, two in zip(module.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_ranks": 2}, "rank 0 of 2"),
        ({"rank": 1, "num_ranks": 2}, "rank 1 of 2"),
        ({"zero_stage": 1}, "zero_stage is 2, here 1"),
        ({"parameters": (("lora_A", (3, 2), "float32"),)}, "number of trained parameters"),
        ({"parameters": (("lora_A", (3, 2), "bfloat16"), ("lora_B", (3, 2), "float32"))}, "bfloat16"),
        ({"parameters": (("lora_X", (3, 2), "float32"), ("lora_B", (3, 2), "float32"))}, "lora_X"),
    ],
)
def test_another_learners_state_is_refused(tmp_path, changes, said):
    written(tmp_path)
    module, optimizer = trained(0)
    with pytest.raises(UserError, match=said) as refusal:
        read_state(tmp_path, layout(module, **changes), optimizer)
    assert str(refusal.value).count(": ") == 1  # one sentence, with its remedy


def test_partitions_of_other_sizes_are_refused(tmp_path):
    written(tmp_path)
    module, _ = trained(0)
    _, smaller = trained(0, shape=(2, 2))
    with pytest.raises(UserError, match=r"0.master is \[3, 2\], here \[2, 2\]"):
        read_state(tmp_path, layout(module), smaller)


def test_a_renamed_ranks_file_is_refused(tmp_path):
    written(tmp_path).rename(tmp_path / "optimizer-rank-1-of-2.safetensors")
    module, optimizer = trained(0)
    with pytest.raises(UserError, match="rank is 0, here 1"):
        read_state(tmp_path, layout(module, rank=1, num_ranks=2), optimizer)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04.", b"\xff" * 64], ids=["empty", "json", "pickle", "noise"])
def test_a_file_that_is_no_state_is_refused(tmp_path, content):
    written(tmp_path).write_bytes(content)
    module, optimizer = trained(0)
    with pytest.raises(UserError, match="is damaged"):
        read_state(tmp_path, layout(module), optimizer)


def test_an_ordinary_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"0.master": torch.zeros(3, 2)}, written(tmp_path))
    module, optimizer = trained(0)
    with pytest.raises(UserError, match="does not say what it holds"):
        read_state(tmp_path, layout(module), optimizer)


@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_or_cut_file_is_refused_or_reads_the_same(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("state")
    path = written(folder)
    module, optimizer = trained(0)
    whole = read_state(folder, layout(module), optimizer)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content) - 1), "at") :]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "at")] ^= data.draw(st.integers(1, 255), "by")
    path.write_bytes(content)
    try:
        assert same(read_state(folder, layout(module), optimizer), whole)
    except UserError as refusal:
        assert str(path) in str(refusal)
