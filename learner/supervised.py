"""The supervised warm start: cross-entropy on the answers, stopped early on held-back loss."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from peft import PeftModel

from floe.cluster.messages import LearnerRank, PromptWithAnswers, WarmStartBatch, WarmStartExample, WarmStartReport
from floe.configs.schema import RunConfig
from floe.configs.sections.health_section import EQUALITY_LIMIT_S
from floe.learner.adapter.export import to_blob
from floe.learner.adapter.files import read_adapter, write_adapter
from floe.learner.equality.start_check import check_policy
from floe.learner.family_plugin import family_of
from floe.learner.optimizer.deepspeed_engine import DeepSpeedEngine, training_device
from floe.learner.optimizer.schedule import learning_rate
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, empty_pack, share_prefixes
from floe.learner.packing.rank_balance import RankShare, rank_share
from floe.learner.policy.policy import adapter_tensors, build_policy, packed_logprobs
from floe.learner.supervised_batches import batches_of_epoch, by_database, num_batches_of_epoch
from floe.learner.warm_start_progress import WarmStartProgress


class SupervisedLearner:
    """Trains an adapter on question/SQL pairs; questions about one database share its schema's tokens.

    The adapter is a fresh one, or begins as the one in `initial_adapter`. With several ranks each process has one, and
    all make the same call of `train`.
    """

    def __init__(
        self,
        config: RunConfig,
        model_dir: Path,
        rank: LearnerRank | None = None,
        *,
        initial_adapter: Path | None = None,
    ) -> None:
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self._config = config
        self._model_dir = model_dir
        policy = build_policy(
            model_dir,
            config.model,
            config.lora,
            dropout=config.warm_start.lora_dropout,
            seed=config.warm_start_seed,
            initial=None if initial_adapter is None else read_adapter(initial_adapter, config.lora),
            with_reference=False,
            gradient_checkpointing=config.learner.gradient_checkpointing,
            device=training_device(),
            family=family_of(config.model, config.run.plugin_folder),
        )
        self._engine = DeepSpeedEngine(policy, config.learner, config.model.dtype, rank)

    def train(
        self,
        examples: Sequence[WarmStartExample],
        held_back: Sequence[WarmStartExample],
        folder: Path,
        checkpoint_dir: Path,
    ) -> Iterator[WarmStartBatch | WarmStartReport]:
        """Train until the held-back loss (nats per answer token) stops improving; the best adapter is in `folder`.

        Yields a message per batch, a report per evaluation, and at the end the best report once more. The cosine spans
        `max_epochs`. Every evaluation leaves a checkpoint; one that lies in `checkpoint_dir` is continued, to the same
        adapter bit for bit on a CPU.

        Raises FloatingPointError when the loss is not finite. Raises UserError, before anything is learned, where the
        learner does not compute the model as the model does itself.
        """
        settings = self._config.warm_start
        batches_per_epoch = num_batches_of_epoch(examples, settings)
        num_batches = max(1, round(batches_per_epoch * settings.max_epochs))
        eval_every = max(1, batches_per_epoch // settings.evals_per_epoch)
        progress = self._continued(checkpoint_dir)
        if progress.num_batches == 0:
            self._check_equality(examples)
        losses: list[float] = []
        for number, batch in enumerate(self._batches(examples, num_batches), start=1):
            if progress.num_worse >= settings.patience:
                break
            if number <= progress.num_batches:
                continue
            started_s = time.perf_counter()
            losses.append(self._step(batch, number, self._learning_rate(number - 1, num_batches)))
            yield WarmStartBatch(number=number, max_number=num_batches, seconds=time.perf_counter() - started_s)
            if number % eval_every and number < num_batches:
                continue
            held_back_loss = self._held_back_loss(held_back)
            best = progress.best
            report = WarmStartReport(
                epoch=number / batches_per_epoch,
                train_loss=sum(losses) / len(losses),
                held_back_loss=held_back_loss,
                is_best=best is None or held_back_loss < best.held_back_loss - settings.min_improvement,
            )
            losses.clear()
            progress = progress.after(report, number)
            self._keep(progress, folder if report.is_best else None, checkpoint_dir)
            yield report
        assert progress.best is not None
        yield progress.best

    def _check_equality(self, examples: Sequence[WarmStartExample]) -> None:
        """Raise UserError for a model that the learner does not compute as the model does itself."""
        longest = max(examples, key=lambda one: len(one.prompt_token_ids))
        texts = [
            PromptWithAnswers.doubled(one.prompt_token_ids, one.answer_token_ids) for one in (longest, *examples[:2])
        ]
        self._policy.train()  # layers are computed again in the backward pass in this mode only
        for module in self._policy.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        config = self._config
        max_pack_tokens = config.learner.max_pack_tokens
        check_policy(self._policy, texts, config.model.max_context_tokens, EQUALITY_LIMIT_S, max_pack_tokens)

    def _continued(self, checkpoint_dir: Path) -> WarmStartProgress:
        progress = WarmStartProgress.read(checkpoint_dir)
        if progress.num_batches:
            self._engine.load_state(checkpoint_dir / progress.tag)
        return progress

    def _keep(self, progress: WarmStartProgress, folder: Path | None, checkpoint_dir: Path) -> None:
        """Write the adapter first and the progress last: after an interruption the evaluation is made again."""
        is_first = self._engine.rank_index == 0
        if is_first and folder is not None:
            write_adapter(folder, to_blob(adapter_tensors(self._policy)), self._config.lora, self._model_dir)
        self._engine.save_state(checkpoint_dir / progress.tag, progress.num_batches)
        if is_first:
            progress.write(checkpoint_dir)

    def _learning_rate(self, number: int, num_batches: int) -> float:
        warmup_share = self._config.learner.warmup_share
        return learning_rate(number, num_batches, self._config.warm_start.learning_rate, warmup_share, "cosine", 0.1)

    @property
    def _policy(self) -> PeftModel:
        return self._engine.module  # type: ignore[return-value]

    def _batches(self, examples: Sequence[WarmStartExample], num_batches: int) -> Iterator[list[WarmStartExample]]:
        """Yield the batches of one epoch after the other."""
        produced, epoch = 0, 0
        while produced < num_batches:
            batches = batches_of_epoch(examples, self._config.warm_start, self._config.warm_start_seed, epoch)
            yield from batches[: num_batches - produced]
            produced += len(batches)
            epoch += 1

    def _share(self, examples: Sequence[WarmStartExample]) -> RankShare:
        groups = _groups(examples)
        return rank_share(groups, self._config.learner.max_pack_tokens, self._engine.rank_index, self._engine.num_ranks)

    def _loss(self, pack: Pack) -> torch.Tensor:
        pack = pack.to(self._policy.device)
        return -(packed_logprobs(self._policy, pack, 1.0) * pack.weight).sum()

    def _step(self, batch: Sequence[WarmStartExample], number: int, rate: float) -> float:
        self._policy.train()
        # The dropout of a batch derives from its number, so that a resumed warm start draws the same values.
        stream = f"{self._config.warm_start_seed}/dropout/{number}/{self._engine.rank_index}"
        torch.manual_seed(random.Random(stream).getrandbits(63))
        share = self._share(batch)
        total = 0.0
        for index in range(share.num_rounds):
            loss = self._loss(share.packs[index] if index < len(share.packs) else empty_pack())
            total += loss.item()
            self._engine.backward(loss, last=index == share.num_rounds - 1)
        total = sum(self._engine.gather(total))
        if not math.isfinite(total):
            raise FloatingPointError(f"the supervised loss is {total}: lower warm_start.learning_rate")
        self._engine.step(rate)
        return total

    @torch.no_grad()
    def _held_back_loss(self, examples: Sequence[WarmStartExample]) -> float:
        self._policy.eval()
        mine = sum(self._loss(pack).item() for pack in self._share(examples).packs)
        return sum(self._engine.gather(mine))


def _groups(examples: Sequence[WarmStartExample]) -> list[PrefixGroup]:
    """Return groups whose weights sum to 1 over all answer tokens of the batch."""
    num_tokens = sum(len(example.answer_token_ids) for example in examples)
    return [
        share_prefixes(
            [(e.prompt_token_ids, Branch(token_ids=e.answer_token_ids, weight=1 / num_tokens)) for e in same_database]
        )
        for same_database in by_database(examples)
    ]
