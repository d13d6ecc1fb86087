"""Groups of one branch: laid out as one causal span, and equal for the policy to a separate branch."""

from dataclasses import replace

import pytest
import torch

from floe.configs.schema import LoraSection, ModelSection
from floe.learner.packing.pack_index import PackIndex
from floe.learner.packing.packs import Branch, GroupLayout, Pack, PrefixGroup, make_packs
from floe.learner.policy.policy import POLICY, build_policy, packed_logprobs
from tests.tiny_models import save_tiny_llama


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    save_tiny_llama(folder, initializer_range=0.25)
    policy = build_policy(
        folder, ModelSection(dtype="float32"), LoraSection(), dropout=0.0, seed=1, initial=None, with_reference=False
    )
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if f"lora_B.{POLICY}." in name:
                parameter.normal_(std=0.2)
    return policy.train()


def alone(prefix: tuple[int, ...], branch: tuple[int, ...], loss_from: int = 0, weight: float = 0.5) -> PrefixGroup:
    return PrefixGroup(
        prefix_ids=prefix, branches=(Branch(token_ids=branch, loss_from=loss_from, weight=weight, advantage=1.5),)
    )


GROUPS = [
    alone((1, 2, 3), (10, 11, 12)),
    alone((4,), (13,)),
    alone((5, 6), (14, 15, 16, 17), loss_from=2),
]


def with_branches(pack: Pack, groups: list[PrefixGroup]) -> Pack:
    """The same pack, each only branch laid out as a branch."""
    layout = []
    for one, group in zip(pack.layout, groups, strict=True):
        start = one.prefix_start + len(group.prefix_ids)
        index = torch.arange(start, one.prefix_end)[None]
        layout.append(
            GroupLayout(
                prefix_start=one.prefix_start,
                prefix_end=start,
                branch_index=index,
                branch_is_real=torch.ones_like(index, dtype=torch.bool),
                real_rows=torch.arange(index.shape[1]),
                branch_lengths=(index.shape[1],),
            )
        )
    return replace(pack, layout=tuple(layout), index=PackIndex.of(layout))


def test_the_only_branch_of_a_group_lies_in_its_span_and_is_scored_as_before():
    (pack,) = make_packs(GROUPS, 100)
    assert [(one.prefix_start, one.prefix_end) for one in pack.layout] == [(0, 6), (6, 8), (8, 14)]
    for one in pack.layout:
        assert one.branch_index.shape == one.branch_is_real.shape == (0, 0)
        assert one.branch_index.dtype == torch.int64 and one.branch_is_real.dtype == torch.bool
    assert pack.input_ids.tolist() == [[1, 2, 3, 10, 11, 12, 4, 13, 5, 6, 14, 15, 16, 17]]
    assert pack.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 3, 4, 5]]
    assert pack.source.tolist() == [2, 3, 4, 6, 11, 12]
    assert pack.target.tolist() == [10, 11, 12, 13, 16, 17]
    assert pack.sequence.tolist() == [0, 0, 0, 1, 2, 2]
    assert pack.sequence_names == ("", "", "")


def test_a_span_gives_the_log_probabilities_and_gradients_of_a_prefix_with_one_branch(policy):
    (pack,) = make_packs(GROUPS, 100)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    found = []
    for one in (pack, with_branches(pack, GROUPS)):
        logprobs = packed_logprobs(policy, one, 0.7)
        found.append((logprobs, torch.autograd.grad((logprobs * one.weight).sum(), trained)))
    (spans, span_gradients), (branches, branch_gradients) = found
    torch.testing.assert_close(spans, branches, rtol=1e-5, atol=1e-5)
    for span, branch in zip(span_gradients, branch_gradients, strict=True):
        assert branch.norm() > 0
        assert (span - branch).norm() <= 1e-5 * branch.norm()


def test_a_branch_that_the_budget_leaves_alone_is_a_span_too(policy):
    branches = tuple(Branch(token_ids=(20 + i, 21 + i, 22 + i), weight=0.5) for i in range(3))
    group = PrefixGroup(prefix_ids=(7, 8, 9), branches=branches)
    (whole,) = make_packs([group], 100)
    packs = make_packs([group], 9)
    assert [len(pack.layout[0].branch_index) for pack in packs] == [2, 0]
    split = torch.cat([packed_logprobs(policy, pack, 1.0) for pack in packs])
    torch.testing.assert_close(split, packed_logprobs(policy, whole, 1.0), rtol=1e-5, atol=1e-5)


def test_a_group_and_the_same_sequences_unshared_have_the_same_log_probabilities(policy):
    branches = tuple(Branch(token_ids=(30 + i,) * (i + 1), weight=0.5) for i in range(4))
    group = PrefixGroup(prefix_ids=(7, 8, 9, 10), branches=branches)
    (shared,) = make_packs([group], 100)
    (unshared,) = make_packs([replace(group, branches=(branch,)) for branch in branches], 100)
    assert len(unshared.layout) == 4
    torch.testing.assert_close(
        packed_logprobs(policy, unshared, 1.0), packed_logprobs(policy, shared, 1.0), rtol=1e-5, atol=1e-5
    )


def test_spans_move_to_a_device_with_their_pack():
    (pack,) = make_packs(GROUPS, 100)
    moved = pack.to(torch.device("meta"))
    assert {one.branch_index.device.type for one in moved.layout} == {"meta"}
