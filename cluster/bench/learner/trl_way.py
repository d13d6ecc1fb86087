"""The same update by trl's GRPOTrainer, for comparison."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from floe.cluster.bench.learner.learner_cases import TokenGroup
from floe.cluster.bench.learner.learner_figures import TRL, TRL_AS_SHIPPED
from floe.cluster.bench.learner.learner_ways import LEARNING_RATE, TEMPERATURE
from floe.configs.schema import RunConfig

MAX_MICRO_BATCH_TOKENS = 8192  # padding included
ABOVE_ANY_RATIO = 5.0  # trl's bound of CISPO's weights, which are 1 here


class TrlWay:
    """GRPOTrainer's own `_compute_loss`, backward, gradient clipping and AdamW, over padded micro-batches.

    As shipped, trl computes its LM head at every position where there is no Triton, as on a CPU. Unless `as_shipped` it
    does what it would do on a GPU: the head over completions only.
    """

    def __init__(self, trainer: Any, max_grad_norm: float, *, as_shipped: bool) -> None:
        self.name = TRL_AS_SHIPPED if as_shipped else TRL
        self._trainer = trainer
        self._max_grad_norm = max_grad_norm
        self._as_shipped = as_shipped
        self._batches: list[dict[str, torch.Tensor]] = []

    def load(self, group: TokenGroup) -> None:
        self._batches = micro_batches(group, self._trainer.processing_class.pad_token_id, self._trainer.args.device)

    def warm_up(self) -> None:
        self._train(self._batches[:1])

    def update(self) -> float:
        return self._train(self._batches)

    def _train(self, batches: Sequence[dict[str, torch.Tensor]]) -> float:
        trainer = self._trainer
        # With both equal, a batch's loss is its share of the mean over all completion tokens.
        trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = len(batches)
        gather_scored_positions(not self._as_shipped)
        total = 0.0
        for batch in batches:
            loss = trainer._compute_loss(trainer.model, batch)
            total += loss.item()
            trainer.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), self._max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return total


def trl_ways(config: RunConfig, model_dir: Path, scratch_dir: Path) -> tuple[TrlWay, TrlWay] | None:
    """Return trl with the head over completions only, and as shipped, over one trainer; None without trl."""
    if importlib.util.find_spec("trl") is None:
        return None
    trainer = _trainer(config, model_dir, scratch_dir)
    limit = config.learner.max_grad_norm
    return TrlWay(trainer, limit, as_shipped=False), TrlWay(trainer, limit, as_shipped=True)


def configuration(config: RunConfig) -> str:
    """Return trl's settings, in words."""
    return (
        f"trl {importlib.metadata.version('trl')}: GRPOTrainer's loss, model and LoRA (peft) in {config.model.dtype}, "
        f"sdpa, no gradient checkpointing, no reference, micro-batches of up to {MAX_MICRO_BATCH_TOKENS} tokens, fused "
        "AdamW. Its LM head sees completions only, which as shipped it does on GPUs alone: elsewhere it takes every "
        "position."
    )


def micro_batches(group: TokenGroup, padding: int, device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Return them as the trainer makes them: prompts padded on the left, completions on the right, sizes even."""
    width = max(len(completion) for completion in group.completions)
    num_sequences = len(group.completions)
    most = max(1, MAX_MICRO_BATCH_TOKENS // (len(group.prompt) + width))
    size = -(-num_sequences // -(-num_sequences // most))
    completion_ids = torch.full((num_sequences, width), padding)
    completion_mask = torch.zeros_like(completion_ids)
    for row, completion in enumerate(group.completions):
        completion_ids[row, : len(completion)] = torch.tensor(completion)
        completion_mask[row, : len(completion)] = 1
    prompt_ids = torch.tensor([group.prompt] * num_sequences)
    whole = {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(group.advantages),
    }
    return [
        {name: value[start : start + size].to(device) for name, value in whole.items()}
        | {"num_items_in_batch": completion_mask.sum().to(device)}
        for start in range(0, num_sequences, size)
    ]


def gather_scored_positions(wanted: bool) -> None:
    """trl gathers them before its LM head where this says that Triton is there. Nothing else asks it under this name:
    the kernels have their own, so that on a CPU they go on in plain torch."""
    from trl.kernels.chunked_logprob import _use_triton
    from trl.trainer import utils

    utils._use_triton = (lambda _: True) if wanted else _use_triton


def lora_model(config: RunConfig, model_dir: Path) -> Any:
    """Return the model with an adapter by PEFT, both in the configuration's precision."""
    base = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=getattr(torch, config.model.dtype), attn_implementation="sdpa"
    )
    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        target_modules=list(config.lora.target_modules),
        task_type="CAUSAL_LM",
    )
    # Adapters in the base's type: in float32 under autocast, trl's default, the same update takes longer.
    return get_peft_model(base, lora, autocast_adapter_dtype=False)


def _trainer(config: RunConfig, model_dir: Path, scratch_dir: Path) -> Any:
    from datasets import Dataset

    # vLLM, which trl would load without using it here, stays out of the process that is measured.
    with mock.patch("trl.import_utils.is_vllm_available", return_value=False):
        from trl import GRPOConfig, GRPOTrainer

    model = lora_model(config, model_dir)
    arguments = GRPOConfig(
        output_dir=str(scratch_dir),
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        learning_rate=LEARNING_RATE,
        weight_decay=config.learner.weight_decay,
        temperature=TEMPERATURE,
        loss_type="cispo",
        epsilon_high=ABOVE_ANY_RATIO,
        beta=0.0,
        report_to="none",
        seed=config.run.seed,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        args=arguments,
        reward_funcs=lambda **_: [],
        train_dataset=Dataset.from_dict({"prompt": ["-"]}),
        processing_class=AutoTokenizer.from_pretrained(model_dir),
    )
    trainer.create_optimizer()
    model.train()
    return trainer
