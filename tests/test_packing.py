"""Packs with shared prefixes: exact against separate sequences through a plain transformers model."""

import math
import random
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from floe.configs.schema import LoraSection, ModelSection
from floe.learner.families.target_logprob import CHUNK_TOKENS_ON_CPU as CHUNK
from floe.learner.families.target_logprob import target_logprobs
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs, share_prefixes
from floe.learner.policy import shared_prefix_attention
from floe.learner.policy.policy import (
    POLICY,
    REFERENCE,
    adapter_tensors,
    build_policy,
    packed_logprobs,
    reference_logprobs,
)
from tests.sampling import sampled

VOCABULARY = 64
LORA = LoraSection(rank=8, alpha=16)
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.25,  # large, so that attention is far from uniform
}
MODELS: dict[str, PreTrainedConfig] = {
    "llama-tied": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama-untied": LlamaConfig(**SHAPE, tie_word_embeddings=False),
    "qwen2-tied": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen2-untied": Qwen2Config(**SHAPE, tie_word_embeddings=False),
}


@dataclass(frozen=True)
class Twins:
    """The same weights and adapter twice: as the learner builds them, and as PEFT over sdpa attention."""

    model_dir: Path
    policy: PeftModel
    plain: PeftModel


def build(model_dir: Path, **options) -> PeftModel:
    settings = {"dropout": 0.0, "seed": 1, "initial": None, "with_reference": False}
    return build_policy(model_dir, ModelSection(dtype="float32"), LORA, **(settings | options))


def randomise_adapter(policy: PeftModel, seed: int) -> None:
    """Set B of the policy's adapter; it starts at zero, which leaves A without a gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if f"lora_B.{POLICY}." in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


# Each family once, and each kind of head; CI takes the other two pairs as well.
@pytest.fixture(scope="module", params=sampled(MODELS, {"llama-tied", "qwen2-untied"}))
def model_dir(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(MODELS[request.param])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # Qwen2's, which start at zero
                parameter.normal_(std=0.25)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def twins(model_dir) -> Twins:
    policy = build(model_dir)
    randomise_adapter(policy, seed=4)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="sdpa")
    config = LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(LORA.target_modules))
    plain = get_peft_model(base, config)
    set_peft_model_state_dict(plain, adapter_tensors(policy))
    return Twins(model_dir, policy.train(), plain.train())


def random_tokens(source: random.Random, count: int) -> tuple[int, ...]:
    return tuple(source.randrange(VOCABULARY) for _ in range(count))


def random_group(source: random.Random, num_branches: int) -> PrefixGroup:
    branches = []
    for _ in range(num_branches):
        length = source.choice([1, 1, 2, 3, 5, 8])
        # advantage as the coefficient of each branch, so that gradients of branches can't be mixed up
        branches.append(
            Branch(
                token_ids=random_tokens(source, length),
                loss_from=source.choice([0, 0, length - 1]),
                weight=source.uniform(0.1, 1),
                advantage=source.uniform(-1, 1),
            )
        )
    return PrefixGroup(prefix_ids=random_tokens(source, source.choice([1, 2, 7, 20])), branches=tuple(branches))


def plain_logprobs(model: torch.nn.Module, groups: list[PrefixGroup], temperature: float) -> torch.Tensor:
    """Return [S] of every branch as a separate sequence, in the order of the packs."""
    found = []
    for group in groups:
        for branch in group.branches:
            tokens = torch.tensor([group.prefix_ids + branch.token_ids])
            logprobs = (model(input_ids=tokens).logits[0].float() / temperature).log_softmax(dim=-1)
            first = len(group.prefix_ids) + branch.loss_from
            found += [logprobs[position - 1, tokens[0, position]] for position in range(first, tokens.shape[1])]
    return torch.stack(found)


def gradients(model: PeftModel, objective: torch.Tensor) -> dict[str, torch.Tensor]:
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert named and all("lora_" in name for name in named)
    return dict(zip(named, torch.autograd.grad(objective, list(named.values())), strict=True))


def assert_relatively_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (actual - expected).norm() <= tolerance * expected.norm()


def assert_packs_are_exact(twins: Twins, groups: list[PrefixGroup], packs: list[Pack], temperature: float) -> None:
    packed = torch.cat([packed_logprobs(twins.policy, pack, temperature) for pack in packs])
    separate = plain_logprobs(twins.plain, groups, temperature)
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=1e-5)
    assert_relatively_close(packed, separate)
    share = torch.cat([pack.weight * pack.advantage for pack in packs])
    expected = gradients(twins.plain, (share * separate).sum())
    for name, gradient in gradients(twins.policy, (share * packed).sum()).items():
        assert expected[name].norm() > 0, name
        assert_relatively_close(gradient, expected[name])


@pytest.mark.parametrize("max_scores_bytes", [0, 2**30], ids=["merged attention", "scores in memory"])
@pytest.mark.parametrize("seed", sampled(range(8), {0, 1}))
def test_packed_log_probabilities_and_lora_gradients_equal_those_of_separate_sequences(
    twins, seed, max_scores_bytes, monkeypatch
):
    monkeypatch.setattr(shared_prefix_attention, "MAX_SCORES_BYTES", max_scores_bytes)
    source = random.Random(seed)
    groups = [random_group(source, source.randint(1, 5)) for _ in range(source.randint(1, 4))]
    budget = source.choice([16, 40, 1000])
    assert_packs_are_exact(twins, groups, make_packs(groups, budget), temperature=source.choice([1.0, 0.7]))


def test_a_group_split_over_packs_gives_what_it_gives_whole(twins):
    groups = [random_group(random.Random(20), 5)]
    packs = make_packs(groups, len(groups[0].prefix_ids) + 8)
    assert len(packs) > 1
    assert_packs_are_exact(twins, groups, packs, temperature=1.0)


def test_branches_of_one_token_are_predicted_from_the_prefix(twins):
    branches = tuple(Branch(token_ids=(token,), weight=0.5, advantage=token - 4.5) for token in (3, 4, 5))
    groups = [PrefixGroup(prefix_ids=(9,), branches=branches), PrefixGroup(prefix_ids=(1, 2), branches=branches)]
    assert_packs_are_exact(twins, groups, make_packs(groups, 100), temperature=1.0)


def test_identical_branches_have_identical_log_probabilities(twins):
    branch = Branch(token_ids=(5, 6, 7), weight=1.0)
    (pack,) = make_packs([PrefixGroup(prefix_ids=(1, 2, 3), branches=(branch,) * 3)], 100)
    one, two, three = packed_logprobs(twins.policy, pack, 1.0).chunk(3)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one, three)


def test_a_log_probability_does_not_depend_on_the_other_branches_and_groups(twins):
    source = random.Random(5)
    group, other = random_group(source, 3), random_group(source, 4)
    first = PrefixGroup(prefix_ids=group.prefix_ids, branches=group.branches[:1])
    alone = packed_logprobs(twins.policy, make_packs([first], 1000)[0], 1.0)
    among = packed_logprobs(twins.policy, make_packs([other, group], 1000)[0], 1.0)
    start = sum(len(branch.token_ids) - branch.loss_from for branch in other.branches)
    torch.testing.assert_close(among[start : start + len(alone)], alone, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(twins):
    groups = [random_group(random.Random(6), 4)]
    (pack,) = make_packs(groups, 1000)
    checkpointing = build(twins.model_dir, initial=adapter_tensors(twins.policy), gradient_checkpointing=True).train()
    assert checkpointing.get_base_model().is_gradient_checkpointing
    expected = gradients(twins.policy, packed_logprobs(twins.policy, pack, 1.0).sum())
    for name, gradient in gradients(checkpointing, packed_logprobs(checkpointing, pack, 1.0).sum()).items():
        assert_relatively_close(gradient, expected[name])


# --- packs


def test_a_pack_by_hand():
    groups = [
        PrefixGroup(
            prefix_ids=(1, 2),
            branches=(
                Branch(token_ids=(10, 11, 12), weight=0.5, advantage=1.0, engine_logprobs=(-0.1, -0.2, -0.3)),
                Branch(token_ids=(13, 14), loss_from=1, weight=0.25, advantage=-1.0),
            ),
            name="first",
        ),
        PrefixGroup(prefix_ids=(3,), branches=(Branch(token_ids=(15,), weight=2.0, engine_logprobs=(-0.4,)),)),
    ]
    (pack,) = make_packs(groups, 100)
    assert pack.input_ids.tolist() == [[1, 2, 10, 11, 12, 13, 14, 3, 15]]
    assert pack.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3, 0, 1]]
    assert pack.source.tolist() == [1, 2, 3, 5, 7]
    assert pack.target.tolist() == [10, 11, 12, 14, 15]
    assert pack.weight.tolist() == [0.5, 0.5, 0.5, 0.25, 2.0]
    assert pack.advantage.tolist() == [1.0, 1.0, 1.0, -1.0, 0.0]
    expected = torch.tensor([-0.1, -0.2, -0.3, math.nan, -0.4])
    torch.testing.assert_close(pack.engine_logprob, expected, equal_nan=True)
    assert pack.sequence.tolist() == [0, 0, 0, 1, 2]
    assert pack.sequence_names == ("first", "first", "")
    assert [(one.prefix_start, one.prefix_end) for one in pack.layout] == [(0, 2), (7, 9)]


def test_a_pack_moves_to_a_device_whole():
    (pack,) = make_packs([random_group(random.Random(1), 3)], 1000)
    moved = pack.to(torch.device("meta"))
    index = moved.index
    parts = [moved, *moved.layout, index, index.sequences, index.branches, index.prefixes]
    everything = [tensor for part in parts for tensor in tensors_of(part)]
    assert len(everything) == 16
    assert all(one.device.type == "meta" for one in everything)


def tensors_of(record) -> list[torch.Tensor]:
    values = [getattr(record, field.name) for field in fields(record)]
    return [value for value in values if isinstance(value, torch.Tensor)]


def test_no_groups_need_no_packs():
    assert make_packs([], 100) == []


token_ids = st.integers(0, VOCABULARY - 1)
some_tokens = st.lists(token_ids, min_size=1, max_size=8).map(tuple)
groups_of_tokens = st.lists(st.tuples(some_tokens, st.lists(some_tokens, min_size=1, max_size=5)), max_size=5)


def sequences_of(pack: Pack) -> list[tuple[int, ...]]:
    """Return prefix and branch together, read back through the layout; without branches the span is the sequence."""
    tokens = pack.input_ids[0]
    sequences = []
    for group in pack.layout:
        span = tuple(tokens[group.prefix_start : group.prefix_end].tolist())
        sequences += [
            span + tuple(tokens[index[is_real]].tolist())
            for index, is_real in zip(group.branch_index, group.branch_is_real, strict=True)
        ] or [span]
    return sequences


@given(shapes=groups_of_tokens, budget=st.integers(1, 60))
def test_packs_hold_every_branch_once_in_order_within_the_budget(shapes, budget):
    groups = [
        PrefixGroup(
            prefix_ids=prefix,
            branches=tuple(Branch(token_ids=branch, weight=1.0) for branch in branches),
            name=f"q{number}",
        )
        for number, (prefix, branches) in enumerate(shapes)
    ]
    packs = make_packs(groups, budget)
    expected = [(prefix, branch) for prefix, branches in shapes for branch in branches]
    assert [found for pack in packs for found in sequences_of(pack)] == [prefix + branch for prefix, branch in expected]
    assert [token for pack in packs for token in pack.target.tolist()] == [t for _, branch in expected for t in branch]
    remaining = iter(expected)
    for pack in packs:
        num_sequences = len(sequences_of(pack))
        assert pack.input_ids.shape[1] <= budget or num_sequences == 1
        in_pack = [branch for _, branch in islice(remaining, num_sequences)]
        assert pack.sequence.tolist() == [number for number, branch in enumerate(in_pack) for _ in branch]
    expected_names = [f"q{number}" for number, (_, branches) in enumerate(shapes) for _ in branches]
    assert [name for pack in packs for name in pack.sequence_names] == expected_names


# --- shared prefixes of unequal prompts


def answer(*tokens: int, weight: float = 0.5) -> Branch:
    return Branch(token_ids=tokens, weight=weight)


def test_what_all_prompts_begin_with_is_the_prefix_and_the_rest_is_not_scored():
    group = share_prefixes([((1, 2, 3, 4), answer(20, 21)), ((1, 2, 5), answer(22, weight=0.25))])
    assert group == PrefixGroup(
        prefix_ids=(1, 2),
        branches=(
            Branch(token_ids=(3, 4, 20, 21), loss_from=2, weight=0.5),
            Branch(token_ids=(5, 22), loss_from=1, weight=0.25),
        ),
    )


def test_prompts_that_share_nothing_but_their_first_token_have_a_prefix_of_one():
    group = share_prefixes([((1, 2, 3), answer(20)), ((1, 4), answer(21)), ((1,), answer(22))])
    assert group.prefix_ids == (1,)
    assert [(branch.token_ids, branch.loss_from) for branch in group.branches] == [
        ((2, 3, 20), 2),
        ((4, 21), 1),
        ((22,), 0),
    ]


def test_prompts_that_do_not_even_share_their_first_token_are_refused():
    with pytest.raises(ValueError, match="first token"):
        share_prefixes([((1, 2, 3), answer(20)), ((4, 2, 3), answer(21))])


def test_one_prompt_alone_is_the_whole_prefix():
    assert share_prefixes([((1, 2, 3), answer(20))]) == PrefixGroup(prefix_ids=(1, 2, 3), branches=(answer(20),))


some_prompts = st.lists(st.lists(st.integers(0, 2), max_size=6).map(lambda rest: (1, *rest)), min_size=1, max_size=5)


@given(prompts=some_prompts, data=st.data())
def test_prefix_and_branch_together_are_the_prompt_and_the_answer_and_only_the_answer_is_scored(prompts, data):
    answers = [data.draw(some_tokens) for _ in prompts]
    group = share_prefixes([(p, answer(*a)) for p, a in zip(prompts, answers, strict=True)])
    assert len(group.prefix_ids) >= 1
    for prompt, tokens, branch in zip(prompts, answers, group.branches, strict=True):
        assert group.prefix_ids + branch.token_ids == prompt + tokens
        assert branch.token_ids[branch.loss_from :] == tokens


@pytest.mark.parametrize(
    "prompts",
    [
        [(1, 2, 3), (1, 2, 3)],
        [(1, 2, 3, 4), (1, 2, 5), (1, 2, 3, 6, 7)],
        [(1, 2), (1, 2, 3)],
        [(1,), (1,)],
        [(1, 2, 3), (1, 4), (1,)],
    ],
)
def test_shared_prompts_train_as_separate_ones(twins, prompts):
    answers = [(20 + 3 * i, 21, 22)[: 1 + i % 3] for i in range(len(prompts))]
    group = share_prefixes([(p, answer(*a, weight=0.3)) for p, a in zip(prompts, answers, strict=True)])
    separate = [PrefixGroup(prefix_ids=p, branches=(answer(*a),)) for p, a in zip(prompts, answers, strict=True)]
    (pack,) = make_packs([group], 1000)
    packed = packed_logprobs(twins.policy, pack, 1.0)
    torch.testing.assert_close(packed, plain_logprobs(twins.plain, separate, 1.0), rtol=1e-5, atol=1e-5)


# --- log-probabilities of targets from hidden states


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_target_log_probabilities_equal_log_softmax_in_value_and_gradient(count, temperature):
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn(count, 32, generator=generator, requires_grad=True)
    head = torch.randn(VOCABULARY, 32, generator=generator)
    target = torch.randint(VOCABULARY, (count,), generator=generator)
    outer = torch.randn(count, generator=generator)
    logprobs = target_logprobs(hidden, head, target, temperature)
    all_logprobs = (hidden.double() @ head.double().T / temperature).log_softmax(dim=-1)
    expected = all_logprobs[torch.arange(count), target]
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad((outer * logprobs).sum(), hidden)
    (expected_gradient,) = torch.autograd.grad((outer * expected).sum(), hidden)
    assert_relatively_close(gradient, expected_gradient)


def test_without_a_gradient_to_compute_the_target_log_probabilities_are_the_same():
    hidden, head, target = torch.randn(5, 32), torch.randn(VOCABULARY, 32), torch.arange(5)
    assert torch.equal(
        target_logprobs(hidden, head, target, 0.7), target_logprobs(hidden.requires_grad_(), head, target, 0.7)
    )


# --- the reference


@pytest.fixture(scope="module")
def groups() -> list[PrefixGroup]:
    source = random.Random(8)
    return [random_group(source, 3), random_group(source, 2)]


@pytest.fixture(scope="module")
def pack(groups) -> Pack:
    (pack,) = make_packs(groups, 1000)
    return pack


def assert_only_the_policy_adapter_trains(policy: PeftModel) -> None:
    assert policy.active_adapters == [POLICY]
    training = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert training == {name for name, _ in policy.named_parameters() if f".{POLICY}." in name}


def test_the_reference_is_the_initial_adapter_and_stays_it(twins, pack):
    policy = build(twins.model_dir, initial=adapter_tensors(twins.policy), with_reference=True)
    assert_only_the_policy_adapter_trains(policy)
    at_start = packed_logprobs(policy, pack, 0.7).detach()
    torch.testing.assert_close(at_start, packed_logprobs(twins.policy, pack, 0.7).detach())
    torch.testing.assert_close(reference_logprobs(policy, pack, 0.7), at_start)
    randomise_adapter(policy, seed=10)
    torch.testing.assert_close(reference_logprobs(policy, pack, 0.7), at_start)
    assert not torch.allclose(packed_logprobs(policy, pack, 0.7), at_start, atol=1e-2)


def test_without_an_initial_adapter_the_reference_is_the_base_model(twins, groups, pack):
    policy = build(twins.model_dir, with_reference=True)
    assert REFERENCE not in policy.peft_config
    fresh = packed_logprobs(policy, pack, 1.0).detach()
    randomise_adapter(policy, seed=9)
    reference = reference_logprobs(policy, pack, 1.0)
    torch.testing.assert_close(reference, fresh)
    base = AutoModelForCausalLM.from_pretrained(twins.model_dir, dtype=torch.float32, attn_implementation="sdpa")
    with torch.no_grad():
        torch.testing.assert_close(reference, plain_logprobs(base, groups, 1.0), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(packed_logprobs(policy, pack, 1.0), reference, atol=1e-2)


@pytest.mark.parametrize("with_initial", [True, False])
def test_after_the_reference_the_policys_adapter_is_active_and_alone_has_gradients(twins, pack, with_initial):
    initial = adapter_tensors(twins.policy) if with_initial else None
    policy = build(twins.model_dir, initial=initial, with_reference=True)
    before = packed_logprobs(policy, pack, 1.0).detach()
    assert not reference_logprobs(policy, pack, 1.0).requires_grad
    assert_only_the_policy_adapter_trains(policy)
    after = packed_logprobs(policy, pack, 1.0)
    assert torch.equal(after, before)
    assert gradients(policy, after.sum())


def test_a_pack_has_at_most_as_many_groups_as_asked():
    groups = [
        PrefixGroup(prefix_ids=(1,) * 10, branches=(Branch(token_ids=(number,) * 20, weight=1.0),) * 2)
        for number in range(5)
    ]
    for most, lengths in ((None, [250]), (1, [50] * 5), (2, [100, 100, 50])):
        assert [pack.input_ids.shape[1] for pack in make_packs(groups, 1000, most)] == lengths
    assert [pack.input_ids.shape[1] for pack in make_packs(groups, 30, 1)] == [30] * 10  # each split as before
