"""floe's loss against trl's GRPOTrainer on the same tensors, for every variant that both have.

Both are given the same per-token log-probabilities; that the packed and the padded forward pass give the same ones is
tested with the learner bench. trl computes advantages inside of its generation, where no test can call it.
"""

import pytest
import torch

from floe.cluster.bench.learner.trl_way import trl_ways
from floe.configs.schema import LoraSection, RunConfig
from floe.learner.loss.grpo_loss import grpo_loss
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

CLIP_LOW, CLIP_HIGH, CAP, KL = 0.2, 0.28, 2.0, 0.05
MAX_NEW_TOKENS = 9
LENGTHS = (5, 1, 9, 3, 7, 2)
NO_LOWER_CLIP = 0.999999  # of CISPO: trl bounds its weights from above alone


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    pytest.importorskip("trl", reason="trl is of the extra 'dev'")
    folder = tmp_path_factory.mktemp("model")
    save_tiny_llama(folder, vocab_size=16)
    save_word_tokenizer(folder, 16)
    run = RunConfig(lora=LoraSection(rank=8, alpha=16))
    ways = trl_ways(run.model_copy(update={"model": run.model.model_copy(update={"dtype": "float32"})}), folder, folder)
    assert ways is not None
    return ways[0]._trainer


@pytest.fixture
def batch():
    """Make padded [B, T] tensors of one batch, half of whose ratios are outside of the clip."""
    random = torch.Generator().manual_seed(7)
    shape = (len(LENGTHS), max(LENGTHS))
    old = -3 * torch.rand(shape, generator=random, dtype=torch.float64) - 0.1
    return {
        "mask": (torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]).double(),
        "old": old,
        "new": old + 0.5 * torch.randn(shape, generator=random, dtype=torch.float64),
        "reference": old + 0.3 * torch.randn(shape, generator=random, dtype=torch.float64),
        "engine": old + 0.8 * torch.randn(shape, generator=random, dtype=torch.float64),
        "advantage": torch.tensor([0.9, -0.1, -0.1, 0.5, -0.6, -0.6], dtype=torch.float64),
    }


def trl_loss(trainer, batch, *, loss_type: str, level: str, kl: float, corrected: bool):
    """Return loss and its gradient [B, T] by trl's own `_compute_loss`."""
    new = batch["new"].clone().requires_grad_()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (new, torch.zeros_like(new), None)
    trainer.loss_type, trainer.importance_sampling_level, trainer.beta = loss_type, level, kl
    trainer.epsilon_low = CLIP_LOW
    trainer.epsilon_high = 1 + CLIP_HIGH if loss_type == "cispo" else CLIP_HIGH
    trainer.args.use_bias_correction_kl = False  # DeepSeek-V3.2's; floe has the KL of arXiv 2402.03300
    trainer.max_completion_length = MAX_NEW_TOKENS
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = corrected
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
    ids = torch.ones_like(batch["mask"], dtype=torch.int64)
    loss = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1],
            "completion_ids": ids,
            "completion_mask": batch["mask"],
            "advantages": batch["advantage"],
            "old_per_token_logps": batch["old"],
            "ref_per_token_logps": batch["reference"],
            # Values as trl's generation gives them in the mode `token_truncate`.
            "importance_sampling_ratio": (batch["old"] - batch["engine"]).exp().clamp(max=CAP),
            "num_items_in_batch": batch["mask"].sum(),
        },
    )
    loss.backward()
    return loss.detach(), new.grad


def floe_loss(batch, *, loss: str, aggregation: str, kl: float, corrected: bool):
    mask = batch["mask"].bool()
    new = batch["new"].clone().requires_grad_()
    num_sequences, num_tokens = len(LENGTHS), sum(LENGTHS)
    lengths = batch["mask"].sum(1, keepdim=True)
    weight = {
        "token": torch.full_like(new, 1 / num_tokens),
        "sequence": 1 / (num_sequences * lengths).expand_as(new),
        "dr_grpo": torch.full_like(new, 1 / (num_sequences * MAX_NEW_TOKENS)),
    }[aggregation]
    terms = grpo_loss(
        logprob=new[mask],
        old_logprob=batch["old"][mask],
        engine_logprob=batch["engine"][mask],
        advantage=batch["advantage"][:, None].expand_as(new)[mask],
        weight=weight.detach()[mask],
        clip_low=NO_LOWER_CLIP if loss == "cispo" else CLIP_LOW,
        clip_high=CLIP_HIGH,
        importance="truncate" if corrected else "none",
        importance_cap=CAP,
        reference_logprob=batch["reference"][mask],
        kl_coefficient=kl,
        loss=loss,
        sequence=torch.arange(num_sequences)[:, None].expand_as(mask)[mask],
    )
    terms.loss.backward()
    return terms.loss.detach(), new.grad


@pytest.mark.parametrize("corrected", [False, True], ids=["as sampled", "corrected"])
@pytest.mark.parametrize("kl", [0.0, KL], ids=["no KL", "KL"])
@pytest.mark.parametrize(
    ("loss", "aggregation", "loss_type", "level"),
    [
        ("grpo", "token", "dapo", "token"),
        ("grpo", "token", "bnpo", "token"),
        ("grpo", "sequence", "grpo", "token"),
        ("grpo", "dr_grpo", "dr_grpo", "token"),
        ("gspo", "sequence", "grpo", "sequence"),
        ("gspo", "token", "dapo", "sequence"),
        ("cispo", "token", "cispo", "token"),
    ],
)
def test_loss_and_gradient_are_trls(trainer, batch, loss, aggregation, loss_type, level, kl, corrected):
    expected, expected_gradient = trl_loss(trainer, batch, loss_type=loss_type, level=level, kl=kl, corrected=corrected)
    found, gradient = floe_loss(batch, loss=loss, aggregation=aggregation, kl=kl, corrected=corrected)
    assert expected_gradient.abs().max() > 0
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)
