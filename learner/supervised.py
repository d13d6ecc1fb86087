"""The supervised warm start: cross-entropy on the answers, stopped early on held-back loss."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from peft import PeftModel

from cluster.messages import WarmStartExample, WarmStartReport
from configs.schema import RunConfig
from learner.adapter_files import to_blob, write_adapter
from learner.deepspeed_engine import DeepSpeedEngine
from learner.packing import Branch, Pack, PrefixGroup, make_packs, share_prefixes
from learner.policy import adapter_tensors, build_policy, packed_logprobs
from learner.schedule import learning_rate


class SupervisedLearner:
    """Trains a fresh adapter on question/SQL pairs; questions about one database share its schema's tokens."""

    def __init__(self, config: RunConfig, model_dir: Path) -> None:
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self._config = config
        self._model_dir = model_dir
        policy = build_policy(
            model_dir,
            config.model,
            config.lora,
            dropout=config.warm_start.lora_dropout,
            seed=config.run.seed,
            initial=None,
            with_reference=False,
        )
        self._engine = DeepSpeedEngine(policy, config.learner, config.model.dtype)

    def train(
        self, examples: Sequence[WarmStartExample], held_back: Sequence[WarmStartExample], folder: Path
    ) -> Iterator[WarmStartReport]:
        """Train until the held-back loss (nats per answer token) stops improving; the best adapter is in `folder`.

        Yields a report per evaluation, and at the end the best one once more. The cosine spans `max_epochs`.
        Raises FloatingPointError when the loss is not finite.
        """
        settings = self._config.warm_start
        batches_per_epoch = sum(math.ceil(len(same) / settings.batch_questions) for same in _by_database(examples))
        num_batches = max(1, round(batches_per_epoch * settings.max_epochs))
        eval_every = max(1, batches_per_epoch // settings.evals_per_epoch)
        best: WarmStartReport | None = None
        num_worse = 0
        losses: list[float] = []
        for number, batch in enumerate(self._batches(examples, num_batches), start=1):
            losses.append(self._step(batch, self._learning_rate(number - 1, num_batches)))
            if number % eval_every and number < num_batches:
                continue
            held_back_loss = self._held_back_loss(held_back)
            is_best = best is None or held_back_loss < best.held_back_loss - settings.min_improvement
            report = WarmStartReport(
                epoch=number / batches_per_epoch,
                train_loss=sum(losses) / len(losses),
                held_back_loss=held_back_loss,
                is_best=is_best,
            )
            losses.clear()
            yield report
            if is_best:
                best, num_worse = report, 0
                write_adapter(folder, to_blob(adapter_tensors(self._policy)), self._config.lora, self._model_dir)
            else:
                num_worse += 1
                if num_worse >= settings.patience:
                    break
        assert best is not None
        yield best

    def _learning_rate(self, number: int, num_batches: int) -> float:
        warmup_share = self._config.learner.warmup_share
        return learning_rate(number, num_batches, self._config.warm_start.learning_rate, warmup_share, "cosine", 0.1)

    @property
    def _policy(self) -> PeftModel:
        return self._engine.module  # type: ignore[return-value]

    def _batches(self, examples: Sequence[WarmStartExample], num_batches: int) -> Iterator[list[WarmStartExample]]:
        """Epochs of shuffled batches, each from one database so that its schema's tokens are computed once a batch.

        The order derives from the run's seed and the epoch alone.
        """
        size = self._config.warm_start.batch_questions
        produced, epoch = 0, 0
        while produced < num_batches:
            order = random.Random(f"{self._config.run.seed}/warm-start/{epoch}")
            batches = []
            for same_database in _by_database(examples):
                order.shuffle(same_database)
                batches += [same_database[start : start + size] for start in range(0, len(same_database), size)]
            order.shuffle(batches)
            yield from batches[: num_batches - produced]
            produced += len(batches)
            epoch += 1

    def _packs(self, examples: Sequence[WarmStartExample]) -> list[Pack]:
        device = self._policy.device
        return [pack.to(device) for pack in _packs(examples, self._config.learner.max_pack_tokens)]

    def _step(self, batch: Sequence[WarmStartExample], rate: float) -> float:
        self._policy.train()
        packs = self._packs(batch)
        total = 0.0
        for number, pack in enumerate(packs):
            loss = -(packed_logprobs(self._policy, pack, 1.0) * pack.weight).sum()
            total += loss.item()
            self._engine.backward(loss, last=number == len(packs) - 1)
        if not math.isfinite(total):
            raise FloatingPointError(f"the supervised loss is {total}: lower warm_start.learning_rate")
        self._engine.step(rate)
        return total

    @torch.no_grad()
    def _held_back_loss(self, examples: Sequence[WarmStartExample]) -> float:
        self._policy.eval()
        packs = self._packs(examples)
        return sum(-float((packed_logprobs(self._policy, pack, 1.0) * pack.weight).sum()) for pack in packs)


def _by_database(examples: Sequence[WarmStartExample]) -> list[list[WarmStartExample]]:
    grouped: dict[str, list[WarmStartExample]] = defaultdict(list)
    for example in examples:
        grouped[example.database_id].append(example)
    return list(grouped.values())


def _packs(examples: Sequence[WarmStartExample], max_pack_tokens: int) -> list[Pack]:
    """Packs whose weights sum to 1 over all answer tokens of the batch."""
    num_tokens = sum(len(example.answer_token_ids) for example in examples)
    groups: list[PrefixGroup] = [
        share_prefixes(
            [(e.prompt_token_ids, Branch(token_ids=e.answer_token_ids, weight=1 / num_tokens)) for e in same_database]
        )
        for same_database in _by_database(examples)
    ]
    return make_packs(groups, max_pack_tokens)
