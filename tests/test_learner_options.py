"""The learner's micro-batches under the loss options, and its error when loss or gradient is not finite.

A tiny policy computes; an engine that only adds gradients up replaces DeepSpeed's.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup, WarmStartExample
from floe.configs.schema import (
    AlgorithmSection,
    ClusterSection,
    LearnerSection,
    LoraSection,
    ModelSection,
    RunConfig,
    WarmStartSection,
)
from floe.configs.sections.colocation import Colocation
from floe.learner import grpo_learner, supervised
from floe.learner.grpo_learner import GrpoLearner
from floe.learner.optimizer.allocator_peaks import AllocatorPeaks
from floe.learner.policy.adapter_dropout import AdapterDropout
from floe.learner.policy.policy import POLICY, build_policy
from floe.learner.supervised import SupervisedLearner

SHAPE = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LORA = LoraSection(rank=8, alpha=16)


class AddingEngine:
    """`norm_fault` is the complaint of `step`, as DeepSpeed's engine complains of a norm that is not finite."""

    rank_index, num_ranks = 0, 1

    def __init__(self, module: PeftModel, norm_fault: str | None = None) -> None:
        self.module = module
        self._norm_fault = norm_fault

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        loss.backward()

    def gather(self, value):
        return [value]

    def step(self, learning_rate: float) -> float:
        if self._norm_fault:
            raise FloatingPointError(self._norm_fault)
        gradients = [p.grad.square().sum() for p in self.module.parameters() if p.grad is not None]
        return float(torch.stack(gradients).sum().sqrt())


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).save_pretrained(folder)
    return folder


def learner_with(model_dir, norm_fault: str | None = None, **algorithm) -> GrpoLearner:
    learner = object.__new__(GrpoLearner)  # without DeepSpeed, which the constructor starts
    policy = build_policy(
        model_dir, ModelSection(dtype="float32"), LORA, dropout=0.0, seed=1, initial=None, with_reference=True
    )
    learner._engine = AddingEngine(policy.train(), norm_fault)
    learner._dropout = AdapterDropout(policy, POLICY, seed=1)
    learner._config = RunConfig(
        lora=LORA,
        learner=LearnerSection(max_pack_tokens=64, updates_per_batch=2),
        algorithm=AlgorithmSection(**algorithm),
    )
    learner._num_steps_done = 0
    learner._rate_factor = 1.0
    return learner


def group(question_id: str, num_tokens: int, engine_logprob: float) -> ScoredGroup:
    completions = tuple(
        Completion(
            text="",
            token_ids=tuple((start + i) % 32 for i in range(num_tokens)),
            logprobs=(engine_logprob,) * num_tokens,
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for start in (0, 7)
    )
    question = Question(question_id=question_id, database_id="shop", text="How many?", gold_sql=("SELECT 1",))
    return ScoredGroup(
        rollout=RolloutGroup(
            group_id="", question=question, prompt_token_ids=(1, 2, 3), temperature=1.0, seed=0, completions=completions
        ),
        scores=(
            Score(outcome=Outcome.MATCH, reward=1.0, seconds=0.0),
            Score(outcome=Outcome.MISMATCH, reward=0.1, seconds=0.0),
        ),
    )


GROUPS = [group("q1", 5, -3.5), group("q2", 20, -3.4), group("q3", 9, -math.inf), group("q4", 3, math.nan)]


@pytest.mark.parametrize("loss", ["grpo", "gspo", "cispo"])
@pytest.mark.parametrize("importance", ["truncate", "mask_sequence", "none"])
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.01])
def test_a_step_with_any_options_reports_numbers(model_dir, loss, importance, kl_coefficient):
    learner = learner_with(model_dir, loss=loss, importance=importance, kl_coefficient=kl_coefficient)
    report = learner.update(1, GROUPS)
    assert math.isfinite(report.loss) and report.grad_norm > 0
    assert (report.trained_groups, report.trained_tokens, report.num_nan_logprobs) == (4, 74, 24)
    assert 0 < report.effective_sample_size <= 1
    assert (report.kl is None) is (report.kl_k1 is None) is (kl_coefficient == 0)


def test_a_loss_that_is_not_finite_names_step_questions_and_the_largest_offenders(model_dir):
    learner = learner_with(model_dir)
    with torch.no_grad():
        learner._policy.get_base_model().model.embed_tokens.weight[26] = math.nan  # a token of q2's completions alone
    with pytest.raises(FloatingPointError) as caught:
        learner.update(7, GROUPS)
    said = str(caught.value)
    assert said.startswith("step 7: the loss is nan; largest losses of a completion: q2 nan, ")
    assert said.endswith("questions of the batch: q1, q2, q3, q4")


def test_a_gradient_that_is_not_finite_names_the_largest_losses_of_its_update(model_dir):
    learner = learner_with(model_dir, norm_fault="the gradient norm is inf")
    with pytest.raises(
        FloatingPointError, match=r"step 3: the gradient norm is inf; largest losses .*: q\d -?0\."
    ) as e:
        learner.update(3, GROUPS)
    assert str(e.value).endswith("questions of the batch: q1, q2, q3, q4")


@contextmanager
def kept_bytes() -> Iterator[list[int]]:
    """Yield the sizes of the tensors that autograd keeps outside of what is computed again."""
    sizes: list[int] = []

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        yield sizes


def test_a_warm_start_keeps_what_its_configuration_lets_it_keep(model_dir, monkeypatch):
    """Its check of the model as well, which runs without the dropout of the training."""
    monkeypatch.setattr(supervised, "DeepSpeedEngine", lambda policy, *_: AddingEngine(policy))
    found = []
    for checkpointing in (False, True):
        learner = SupervisedLearner(
            RunConfig(
                model=ModelSection(dtype="float32"),
                lora=LORA,
                learner=LearnerSection(max_pack_tokens=64, gradient_checkpointing=checkpointing),
                warm_start=WarmStartSection(lora_dropout=0.5),
            ),
            model_dir,
        )
        example = WarmStartExample(database_id="shop", prompt_token_ids=(1, 2, 3), answer_token_ids=(4, 5, 6, 7))

        def losses(policy: PeftModel, *_, learner=learner, example=example) -> list[tuple[float, int]]:
            pairs = []
            for _ in range(2):
                with kept_bytes() as sizes:
                    (pack,) = learner._share([example]).packs
                    pairs.append((float(learner._loss(pack).detach()), sum(sizes)))
            return pairs

        learner._policy.train()
        randomise(learner._policy)
        in_training = losses(learner._policy)
        monkeypatch.setattr(supervised, "check_policy", lambda *given, losses=losses: found.append(losses(*given)))
        learner._check_equality([example])
        found.append(in_training)
        assert in_training[0][0] != in_training[1][0]  # dropout
    (check, training), (light_check, light_training) = found[:2], found[2:]
    assert check[0] == check[1] and light_check[0] == light_check[1]  # no dropout
    assert light_training[0][1] < 0.4 * training[0][1]
    assert light_check[0][1] < 0.4 * check[0][1]


class Loaded(Exception):
    """Carries the device that a policy is loaded to."""


@pytest.mark.parametrize(("colocation", "device"), [("resident", "cuda"), ("learner_offloads", None)])
def test_weights_that_leave_the_gpu_do_not_lie_there_in_one_block(model_dir, monkeypatch, colocation, device):
    def build(*_, **options):
        raise Loaded(options["device"])

    monkeypatch.setattr(grpo_learner, "build_policy", build)
    monkeypatch.setattr(grpo_learner, "training_device", lambda: "cuda")
    config = RunConfig(cluster=ClusterSection(colocation=Colocation(colocation)))
    with pytest.raises(Loaded) as loaded:
        GrpoLearner(config, model_dir, None, lambda _: None)
    assert loaded.value.args == (device,)


def randomise(policy: PeftModel) -> None:
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)


def test_the_allocators_peak_is_that_of_the_update(model_dir, monkeypatch):
    learner, events = learner_with(model_dir), []
    step = learner._engine.step
    monkeypatch.setattr(learner._engine, "step", lambda rate: events.append("step") or step(rate))
    peaks = AllocatorPeaks(allocated_bytes=3, reserved_bytes=4)
    monkeypatch.setattr(grpo_learner, "forget_peaks", lambda device: events.append("forget"))
    monkeypatch.setattr(AllocatorPeaks, "of", lambda device: events.append("read") or peaks)
    report = learner.update(1, GROUPS)
    assert events == ["forget", "step", "step", "read"]
    assert (report.allocated_peak_bytes, report.reserved_peak_bytes) == (3, 4)


@pytest.mark.parametrize(("limit", "expected"), [(None, 6), (1, 1), (20, 1), (21, 2), (60, 3), (10_000, 6)])
def test_a_warm_start_ends_with_the_batch_that_reaches_its_answer_tokens(model_dir, monkeypatch, limit, expected):
    """Batches of two examples with 20 answer tokens together, three in an epoch, two epochs at most."""
    monkeypatch.setattr(supervised, "DeepSpeedEngine", lambda policy, *_: AddingEngine(policy))
    settings = WarmStartSection(batch_questions=2, max_epochs=2, max_answer_tokens=limit)
    learner = SupervisedLearner(
        RunConfig(model=ModelSection(dtype="float32"), lora=LORA, warm_start=settings), model_dir
    )
    example = WarmStartExample(database_id="shop", prompt_token_ids=(1, 2), answer_token_ids=(3,) * 10)
    assert learner._num_batches([example] * 6, 6) == expected
