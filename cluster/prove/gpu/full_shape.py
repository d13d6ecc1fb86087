"""Parts 9 and 10: the 3B's shape on the card, a full pack and a full KV cache, and a batch of a warm start."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from transformers import AutoConfig

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.memory_plan import MemoryPlan
from floe.cluster.memory_plan.of_machine import budget_bytes, plan_at_start
from floe.cluster.memory_plan.phases import Phase
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.messages import (
    Completion,
    GroupRequest,
    Outcome,
    Question,
    RolloutGroup,
    Score,
    ScoredGroup,
    WarmStartExample,
)
from floe.cluster.prove.gpu import matmul_rate
from floe.cluster.prove.gpu.cuda import UsedPeak, used_bytes
from floe.cluster.prove.gpu.engine_alone import NAMESPACE
from floe.cluster.prove.gpu.engine_under_proof import GPU_START_S
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_most, told
from floe.cluster.prove.random_model import random_model
from floe.cluster.ray_actors.placement import ray_session, start_learner, start_rollout_pool, start_supervised_learner
from floe.cluster.time_plan.update_flops import ModelSizes, Work, update_flops
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import NAME_OF_PROOF, RunConfig

FULL_CONFIG = Path(__file__).parents[3] / "configs" / "qwen25_coder_3b_24gb.yaml"
GIB = 2**30
SIZE, QUICK_SIZE = "3b", "0.5b"
MAX_DEVIATION = 0.05
OF_PROOF = (f"run.name={NAME_OF_PROOF}", "reward.design=proof", "evaluation.enabled=false")
FIRST_TOKEN, LAST_TOKEN = 1000, 100_000  # ordinary tokens of the tokenizer
GROUP_SIZE = 16
NEW_TOKENS = 64
WARM_START_TOKENS = 60  # of an answer


def random_weights(setting: Setting) -> Path:
    """Return the folder of the shape with random weights, made once. Raises UserError without the tokenizer."""
    size = QUICK_SIZE if setting.is_quick else SIZE
    config_file = setting.tokenizer_dir / f"config-{size}-instruct.json"
    if not config_file.is_file():
        raise UserError(f"There is no {config_file}: give --tokenizer, the folder of Qwen2.5-Coder's tokenizer.")
    folder = setting.home_dir / "models" / f"random-qwen2.5-coder-{size}"
    return random_model(folder, config_file, setting.tokenizer_dir)


def full_overrides(setting: Setting, model_dir: Path) -> list[str]:
    return [
        f"run.home={json.dumps(str(setting.home_dir))}",
        f"model.path={json.dumps(str(model_dir))}",
        "model.dtype=bfloat16",
        "rollout.dtype=bfloat16",
        "data.source=demo",
        "cluster.address=local",
        f"cluster.start_timeout_s={GPU_START_S}",
    ]


def _decided(setting: Setting) -> tuple[RunConfig, Path]:
    model_dir = random_weights(setting)
    config = load_config(FULL_CONFIG, full_overrides(setting, model_dir))
    chosen = _plan(config).chosen
    if chosen is None:
        raise UserError("Engine and learner don't fit into this card in any placement: 'floe plan' shows why.")
    colocation = f"cluster.colocation={chosen.colocation.value}"
    return load_config(FULL_CONFIG, [*full_overrides(setting, model_dir), colocation]), model_dir


def _plan(config: RunConfig) -> MemoryPlan:
    return plan_at_start(config, shape_of(config), budget_bytes(config, None))


def prove_step(setting: Setting) -> Iterator[Line | Figures]:
    """Compare the peak of each phase with the plan's."""
    config, model_dir = _decided(setting)
    plan = _plan(config).options[0]
    planned = {phase.phase: phase.num_bytes for phase in plan.phases}
    before_bytes = used_bytes()
    yield told("model and placement", f"{model_dir.name}, {config.cluster.colocation}")
    with ray_session(config.cluster, NAMESPACE):
        learner = start_learner(config, model_dir, None)
        learner.release()
        pool = start_rollout_pool(config, model_dir, kv_cache_bytes=plan.kv_bytes)
        yield from _held(Phase.GENERATING, planned, before_bytes, lambda: list(pool.generate(_requests(config), None)))
        pool.release()
        learner.acquire()
        group = _full_group(config)
        yield from _held(Phase.LEARNING, planned, before_bytes, lambda: [learner.update(n, [group]) for n in (1, 2)])
        allocated_bytes, reserved_bytes = ray.get(ray.get_actor("learner").__ray_call__.remote(_allocator_peaks))
        manifest = learner.export_adapter(1)
        learner.release()
        pool.acquire()
        yield from _held(Phase.BROADCAST, planned, before_bytes, lambda: pool.install(manifest))
        pool.stop()
        learner.stop()
    slack = reserved_bytes / allocated_bytes - 1
    yield told("what the learner's allocator can't use", f"{100 * slack:.1f} % of {allocated_bytes / GIB:.2f} GiB")
    yield Figures(values={"allocator_slack_share": slack})


def _held(phase: Phase, planned: dict[Phase, int], before_bytes: int, work: Callable[[], Any]) -> Iterator[Line]:
    with UsedPeak(before_bytes) as peak:
        work()
    yield told(f"{phase}: most of the card", f"{peak.num_bytes / GIB:.2f} GiB, planned {planned[phase] / GIB:.2f}")
    yield at_most(f"{phase}: share that the plan is off", abs(planned[phase] / peak.num_bytes - 1), MAX_DEVIATION)


def _allocator_peaks(_: object) -> tuple[int, int]:
    """Return the most that tensors held in the learner's process, and the most that was reserved for them."""
    import torch

    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def _tokens(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(count))


def _question(number: int) -> Question:
    return Question(question_id=f"q{number}", database_id="proof", text="", gold_sql=("SELECT 1",))


def _requests(config: RunConfig) -> list[GroupRequest]:
    """Return as many sequences as the engine takes at a time, with prompts of the greatest length."""
    rng = random.Random(0)
    return [
        GroupRequest(
            group_id=str(number),
            question=_question(number),
            prompt_token_ids=_tokens(rng, config.max_prompt_tokens),
            num_samples=GROUP_SIZE,
            temperature=1.0,
            max_new_tokens=NEW_TOKENS,
            seed=number,
        )
        for number in range(max(1, config.rollout.max_num_seqs // GROUP_SIZE))
    ]


def _full_group(config: RunConfig) -> ScoredGroup:
    """Return a group whose prompt and completions fill a pack."""
    rng = random.Random(1)
    num_prompt = config.max_prompt_tokens
    length = min((config.learner.max_pack_tokens - num_prompt) // GROUP_SIZE, config.rollout.max_new_tokens)
    completions = tuple(
        Completion(
            text="",
            token_ids=_tokens(rng, length),
            logprobs=(-10.0,) * length,
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for _ in range(GROUP_SIZE)
    )
    rollout = RolloutGroup(
        group_id="full",
        question=_question(0),
        prompt_token_ids=_tokens(rng, num_prompt),
        temperature=1.0,
        seed=0,
        completions=completions,
    )
    outcomes = ((Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.0)) * (GROUP_SIZE // 2)
    return ScoredGroup(
        rollout=rollout,
        scores=tuple(Score(outcome=outcome, reward=reward, seconds=0.0) for outcome, reward in outcomes),
    )


def prove_warm_start(setting: Setting) -> Iterator[Line]:
    """Train one batch of answers after the longest prompts, and compare its memory with the card."""
    config, model_dir = _decided(setting)
    config = config.model_copy(
        update={"warm_start": config.warm_start.model_copy(update={"enabled": True, "max_epochs": 1})}
    )
    rng = random.Random(0)
    examples = [_example(rng, config) for _ in range(config.warm_start.batch_questions)]
    before_bytes = used_bytes()
    with ray_session(config.cluster, NAMESPACE), UsedPeak(before_bytes) as peak:
        learner = start_supervised_learner(config, model_dir)
        found = list(
            learner.train(examples, examples[:1], setting.scratch_dir / "adapter", setting.scratch_dir / "state")
        )
        learner.stop()
    yield told("messages of the warm start", str(len(found)))
    limit_gib = (budget_bytes(config, None) - before_bytes) / GIB
    yield at_most("most of the card", peak.num_bytes / GIB, limit_gib, " GiB")


def _example(rng: random.Random, config: RunConfig) -> WarmStartExample:
    return WarmStartExample(
        database_id="proof",
        prompt_token_ids=(FIRST_TOKEN, *_tokens(rng, min(3000, config.max_prompt_tokens) - 1)),
        answer_token_ids=_tokens(rng, WARM_START_TOKENS),
    )


def matmul_flop_per_s() -> float:
    """Return the card's rate of products, measured in a separate process whose context is gone before a run starts."""
    command = module_command(matmul_rate.__name__)
    done = subprocess.run(command, env=environment_of_floe(), capture_output=True, text=True, check=True)
    return float(done.stdout)


def update_flop(config: RunConfig, model_dir: Path, record: dict[str, Any]) -> float:
    """Return the operations of a step's update, without those that are repeated, from the step's own metrics."""
    num_groups = max(1, record["num_groups"])
    prompt, completion = record["prompt_tokens"] / num_groups, record["mean_completion_tokens"]
    num_sequences = record["trained_tokens"] / max(1.0, completion)
    pairs = num_groups * prompt**2 / 2 + num_sequences * (prompt * completion + completion**2 / 2)
    num_tokens = int(record["prompt_tokens"] + record["trained_tokens"])
    work = Work(num_tokens=num_tokens, num_scored=int(record["trained_tokens"]), num_pairs=int(pairs))
    return update_flops(ModelSizes.of(AutoConfig.from_pretrained(model_dir), config.lora), work).total
