"""Dropout of the adapter in GRPO: in the pass that carries the gradient alone, with masks that a step repeats."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from floe.cluster.memory_plan.learner.work import BoundedWork
from floe.cluster.memory_plan.shapes.published import QWEN, published_shape
from floe.cluster.messages import PromptWithAnswers, StepReport
from floe.configs.schema import (
    AlgorithmSection,
    LearnerSection,
    LoraSection,
    ModelSection,
    RolloutSection,
    RunConfig,
    RunSection,
)
from floe.learner import grpo_learner
from floe.learner.adapter.export import to_blob
from floe.learner.adapter.files import write_adapter
from floe.learner.grpo_learner import GrpoLearner
from floe.learner.packing.packs import Branch, PrefixGroup, make_packs
from floe.learner.policy.adapter_dropout import AdapterDropout
from floe.learner.policy.policy import POLICY, adapter_tensors, build_policy, packed_logprobs, probe_tensors
from tests.test_learner_options import GROUPS, LORA, AddingEngine
from tests.tiny_models import save_tiny_llama

DROPOUT = 0.2
PROMPT, ANSWERS = (1, 2, 3, 4), ((5, 6, 7, 8), (5, 9, 7), (5, 6, 7, 8))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def initial(model_dir, tmp_path_factory):
    """A warm start's stand-in: a fresh adapter computes 0, with any mask."""
    policy = policy_with(model_dir, 0.0)
    folder = tmp_path_factory.mktemp("initial") / "adapter"
    write_adapter(folder, to_blob(probe_tensors(adapter_tensors(policy))), LORA, model_dir)
    return folder


def policy_with(model_dir, dropout: float, initial=None):
    return build_policy(
        model_dir, ModelSection(dtype="float32"), LORA, dropout=dropout, seed=1, initial=initial, with_reference=False
    ).train()


@pytest.fixture
def learner_of(model_dir, initial, monkeypatch):
    monkeypatch.setattr(grpo_learner, "DeepSpeedEngine", lambda policy, *_: AddingEngine(policy))

    def made(dropout: float = DROPOUT, seed: int = 1, checkpointing: bool = False, **algorithm) -> GrpoLearner:
        config = RunConfig(
            run=RunSection(seed=seed),
            model=ModelSection(dtype="float32"),
            rollout=RolloutSection(dtype="float32"),
            lora=LoraSection(rank=LORA.rank, alpha=LORA.alpha, dropout=dropout),
            learner=LearnerSection(max_pack_tokens=64, gradient_checkpointing=checkpointing),
            algorithm=AlgorithmSection(**({"kl_coefficient": 0.01} | algorithm)),
        )
        return GrpoLearner(config, model_dir, initial, lambda blob: blob)

    return made


def gradients(learner: GrpoLearner) -> list[torch.Tensor]:
    return [one.grad for one in learner._policy.parameters() if one.grad is not None]


def stepped(learner: GrpoLearner, step: int = 3) -> tuple[StepReport, list[torch.Tensor]]:
    return learner.update(step, GROUPS), gradients(learner)


def are_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def test_a_step_made_again_has_the_same_masks_whatever_was_computed_before(learner_of):
    report, found = stepped(learner_of())
    torch.manual_seed(12345)
    again = learner_of()
    torch.rand(7)
    again.canary_logprobs(range(20), with_adapter=True)
    same_report, same = stepped(again)
    assert are_equal(same, found)
    assert asdict(same_report) == asdict(report)


@pytest.mark.parametrize(("step", "seed"), [(4, 1), (3, 2)])
def test_another_step_and_another_seed_have_other_masks(learner_of, step, seed):
    assert not are_equal(stepped(learner_of(seed=seed), step)[1], stepped(learner_of())[1])


def test_gradient_checkpointing_computes_layers_again_with_the_same_masks(learner_of):
    (kept, found), (again, same) = stepped(learner_of()), stepped(learner_of(checkpointing=True))
    assert are_equal(same, found)
    assert asdict(again) == asdict(kept)


def test_denominator_and_reference_are_without_it_and_the_gradients_pass_is_with_it(learner_of, monkeypatch):
    given, real = [], grpo_learner.grpo_loss
    monkeypatch.setattr(grpo_learner, "grpo_loss", lambda **tokens: given.append(tokens) or real(**tokens))
    stepped(learner_of(dropout=0.0))
    plain, given[:] = list(given), []
    report, _ = stepped(learner_of())
    assert len(given) == len(plain) > 0
    for with_dropout, without in zip(given, plain, strict=True):
        assert torch.equal(with_dropout["old_logprob"], without["old_logprob"])
        assert torch.equal(with_dropout["reference_logprob"], without["reference_logprob"])
        assert not torch.allclose(with_dropout["logprob"], without["logprob"], atol=1e-3)
    assert report.ratio_clip_share > 0


def test_what_is_compared_with_the_engine_is_without_it(learner_of):
    with_dropout, without = learner_of(), learner_of(dropout=0.0)
    text = PromptWithAnswers(prompt_token_ids=PROMPT, answers=ANSWERS)
    for make_a_step in (lambda: None, lambda: stepped(with_dropout)):
        make_a_step()
        assert with_dropout.canary_logprobs(PROMPT, True) == without.canary_logprobs(PROMPT, True)
        assert with_dropout.answer_logprobs(text) == without.answer_logprobs(text)
    texts = [PromptWithAnswers.doubled(tuple(range(20)), (3, 4)), PromptWithAnswers.doubled(PROMPT, (5, 6))]
    assert with_dropout.check_equality(texts, 600.0).mean_difference < 1e-5


def test_without_dropout_no_pass_is_added_and_no_random_number_drawn(learner_of, monkeypatch):
    learner = learner_of(dropout=0.0)
    passes, real = [], grpo_learner.packed_logprobs
    monkeypatch.setattr(grpo_learner, "packed_logprobs", lambda *given: passes.append(given) or real(*given))
    before = torch.random.get_rng_state()
    stepped(learner)
    assert torch.equal(torch.random.get_rng_state(), before)
    num_packs = len(passes)
    passes.clear()
    stepped(learner_of())
    assert len(passes) == 2 * num_packs


def packed(groups: list[PrefixGroup]):
    (pack,) = make_packs(groups, 1000)
    return pack


def group_of(answers) -> PrefixGroup:
    return PrefixGroup(prefix_ids=PROMPT, branches=tuple(Branch(token_ids=one, weight=0.0) for one in answers))


@torch.no_grad()
def test_the_mean_over_masks_approaches_what_is_computed_without(model_dir):
    """The adapter is small, as trained ones are: what it adds to a log-probability is almost linear."""
    policy = policy_with(model_dir, 0.0)
    small = {name: 0.05 * tensor for name, tensor in probe_tensors(adapter_tensors(policy)).items()}
    policy = policy_with(model_dir, DROPOUT, small)
    dropout, pack = AdapterDropout(policy, POLICY, seed=1), packed([group_of(ANSWERS)])
    without = packed_logprobs(policy, pack, 1.0)
    drawn = []
    for number in range(200):
        with dropout.drawn(1, 0, number):
            drawn.append(packed_logprobs(policy, pack, 1.0))
    found = torch.stack(drawn)
    assert (found.std(dim=0) > 0).all()
    errors = (found.mean(dim=0) - without).abs() / (found.std(dim=0) / len(drawn) ** 0.5)
    assert errors.max() < 4
    assert torch.equal(packed_logprobs(policy, pack, 1.0), without)  # off again


@torch.no_grad()
def test_completions_of_a_pack_share_the_mask_of_their_prompt(model_dir):
    policy = policy_with(model_dir, 0.0)
    policy = policy_with(model_dir, DROPOUT, probe_tensors(adapter_tensors(policy)))
    dropout = AdapterDropout(policy, POLICY, seed=1)
    with dropout.drawn(1, 0, 0):
        found = packed_logprobs(policy, packed([group_of(ANSWERS), group_of(ANSWERS)]), 1.0)
    one, two, three, other, *_ = found.split([len(answer) for answer in ANSWERS * 2])
    assert one[0] == two[0] == three[0]  # predicted from the prompt's last token
    assert one[0] != other[0]  # another group's
    assert one[1] != three[1]  # each completion has its own masks


def test_a_bound_of_the_memory_counts_it():
    shape = published_shape(f"{QWEN}-3B")
    with_it, without = (
        RunConfig(
            lora=LoraSection(dropout=dropout),
            learner=LearnerSection(gradient_checkpointing=True),
            model=ModelSection(dtype="bfloat16"),
        )
        for dropout in (DROPOUT, 0.0)
    )
    work = BoundedWork(shape)
    # A mask of bytes and a copy in bfloat16 of the seven inputs of one layer.
    inputs = 6 * 2048 + 11008
    more = work.learning(with_it, 1000).num_bytes - work.learning(without, 1000).num_bytes
    assert more == pytest.approx(1000 * inputs * 3, rel=0.1)
    assert work.own_forward(with_it) == work.own_forward(without)
