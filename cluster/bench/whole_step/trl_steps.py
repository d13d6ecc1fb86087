"""Whole steps of trl's GRPOTrainer for the bench: its own `train()`, held before each step until it is asked for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoTokenizer, TrainerCallback

from floe.cluster.bench.learner.trl_way import gather_scored_positions, lora_model
from floe.cluster.bench.whole_step.floe_steps import with_added
from floe.cluster.bench.whole_step.step_figures import StepTimes
from floe.cluster.other_trainers.sql_reward import SqlReward
from floe.configs.schema import RunConfig

MAX_MICRO_BATCH_TOKENS = 8192  # padding included
Row = Mapping[str, Any]  # prompt, db_id, gold_sql, question and evidence


class TrlSteps:
    """Trains on `rows` in their order, `questions_per_step` of them a step, in a thread of this process."""

    def __init__(
        self, config: RunConfig, model_dir: Path, databases_dir: Path, rows: Sequence[Row], scratch_dir: Path,
        longest_tokens: int, with_vllm: bool,
    ) -> None:  # fmt: skip
        """Load the model and, if asked, vLLM; raise what trl raises where it can't. `longest_tokens` is a prompt's."""
        torch.set_num_threads(config.learner.num_threads or torch.get_num_threads())
        self._seconds: dict[str, float] = {}
        self._num_tokens = 0
        self._permits, self._done = threading.Semaphore(0), queue.SimpleQueue[StepTimes | BaseException]()
        reward = config.reward
        self._reward = SqlReward(
            databases_dir,
            design=reward.design,
            semantics=reward.semantics,
            num_workers=reward.num_workers,
            time_limit_s=reward.time_limit_s,
        )
        gather_scored_positions(True)  # the faster of its two ways on a processor
        trainer = _trainer(config, model_dir, rows, scratch_dir, longest_tokens, with_vllm, self._rewards_of())
        trainer.add_callback(_StepByStep(self._begun, self._ended))
        self._watch(trainer, "_generate_single_turn", "generate_s")
        self._watch(trainer, "_calculate_rewards", "reward_s")
        if with_vllm:
            self._watch(trainer.vllm_generation, "sync_weights", "sync_s")
        self._thread = threading.Thread(target=self._train, args=(trainer,), daemon=True)
        self._thread.start()

    def ping(self) -> bool:
        return True

    def step(self) -> StepTimes:
        """Let one step go and return its times. Raises what the training raised."""
        self._permits.release()
        found = self._done.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        self._reward.close()

    def _train(self, trainer: Any) -> None:
        try:
            trainer.train()
        except BaseException as fault:  # which the waiting call is to see
            self._done.put(fault)

    def _begun(self) -> None:
        self._permits.acquire()
        self._seconds, self._num_tokens = dict.fromkeys(("generate_s", "reward_s", "sync_s"), 0.0), 0
        self._started_s = time.perf_counter()

    def _ended(self) -> None:
        step_s, parts = time.perf_counter() - self._started_s, self._seconds
        generate_s = parts["generate_s"] - parts["sync_s"]  # it syncs within
        update_s = step_s - parts["generate_s"] - parts["reward_s"]
        self._done.put(
            StepTimes(
                step_s=step_s,
                generate_s=generate_s,
                reward_s=parts["reward_s"],
                update_s=update_s,
                sync_s=parts["sync_s"],
                num_tokens=self._num_tokens,
            )
        )

    def _watch(self, owner: Any, method: str, phase: str) -> None:
        """Have the seconds of a method counted, and the tokens of what it generates."""
        asked = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            started_s = time.perf_counter()
            found = asked(*arguments, **named)
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - started_s
            if phase == "generate_s":
                self._num_tokens += sum(len(one) for one in found[0])
            return found

        setattr(owner, method, timed)

    def _rewards_of(self) -> Callable[..., list[float | None]]:
        judge = self._reward.trl()

        def rewards(**columns: Any) -> list[float | None]:
            return with_added(judge(**columns))

        return rewards


class _StepByStep(TrainerCallback):  # type: ignore[misc]
    def __init__(self, begun: Callable[[], None], ended: Callable[[], None]) -> None:
        self._begun, self._ended = begun, ended

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._ended()


def micro_batch_size(num_sequences: int, sequence_tokens: int) -> int:
    """Return the largest even part of a step's sequences that stays within `MAX_MICRO_BATCH_TOKENS`."""
    most = max(1, MAX_MICRO_BATCH_TOKENS // sequence_tokens)
    return max(size for size in range(1, num_sequences + 1) if num_sequences % size == 0 and size <= most)


def _trainer(
    config: RunConfig, model_dir: Path, rows: Sequence[Row], scratch_dir: Path, longest_tokens: int, with_vllm: bool,
    reward: Callable[..., list[float | None]],
) -> Any:  # fmt: skip
    from datasets import Dataset

    with _trl_imports(with_vllm):
        from trl import GRPOConfig, GRPOTrainer

    rollout = config.rollout
    num_sequences = rollout.questions_per_step * rollout.group_size
    context_tokens = longest_tokens + rollout.max_new_tokens
    size = micro_batch_size(num_sequences, context_tokens)
    vllm = {"vllm_mode": "colocate", "vllm_max_model_length": context_tokens, "vllm_gpu_memory_utilization": 0.1}
    arguments = GRPOConfig(
        output_dir=str(scratch_dir),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        max_steps=len(rows) // rollout.questions_per_step,
        num_generations=rollout.group_size,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=num_sequences // size,
        max_completion_length=rollout.max_new_tokens,
        temperature=rollout.temperature,
        shuffle_dataset=False,
        learning_rate=config.learner.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=config.learner.weight_decay,
        max_grad_norm=config.learner.max_grad_norm,
        loss_type="dapo",  # the mean over the tokens, as algorithm.loss_aggregation=token
        scale_rewards="none",
        epsilon=config.algorithm.clip_low,
        epsilon_high=config.algorithm.clip_high,
        beta=0.0,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        seed=config.run.seed,
        disable_tqdm=True,
        use_vllm=with_vllm,
        **(vllm if with_vllm else {}),
    )
    return GRPOTrainer(
        model=lora_model(config, model_dir),
        args=arguments,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(model_dir),
    )


def _trl_imports(with_vllm: bool) -> Any:
    """vLLM, which trl would load without using it, stays out of a process that generates with transformers."""
    return nullcontext() if with_vllm else mock.patch("trl.import_utils.is_vllm_available", return_value=False)
