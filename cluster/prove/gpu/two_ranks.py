"""Part 12: two ranks of the learner against one, and the addresses that they listen on."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import ray

from floe.cluster.messages import Completion, Outcome, Question, RolloutGroup, Score, ScoredGroup, StepReport
from floe.cluster.prove.gpu.engine_alone import NAMESPACE
from floe.cluster.prove.gpu.engine_under_proof import Demo, smoke_config
from floe.cluster.prove.gpu.findings import Figures, Line, Setting, at_least, at_most, holds, not_here
from floe.cluster.ray_actors.placement import ray_session, start_learner
from floe.configs.schema import RunConfig
from floe.learner.loss.training_groups import training_groups
from floe.learner.packing.rank_balance import rank_share

NUM_UPDATES = 2
LENGTHS = ((30, 12, 25, 9), (18, 22, 7, 30), (11, 30, 16, 14), (28, 8, 19, 21))  # tokens of completions, by group
LIMITS = {"cpu": 1e-3, "cuda": 3e-2}  # relative; sums in another order, in float32 and in bfloat16
FIRST_TOKEN = 10
# Enough packs for both ranks, and a clip that never acts.
OF_LEARNER = ("learner.max_pack_tokens=256", "learner.max_grad_norm=1e6", "algorithm.kl_coefficient=0.01")


def prove(setting: Setting) -> Iterator[Line | Figures]:
    name = "two ranks against one"
    if setting.device == "cuda" and _num_gpus() < 2:
        yield not_here(name, "this machine has one card")
        return
    reports: dict[int, list[StepReport]] = {}
    open_addresses: list[str] = []
    for num_ranks in (1, 2):
        config = config_of(setting, num_ranks)
        demo = Demo.of(config, len(LENGTHS), 4)
        groups = [_scored(number, request.prompt_token_ids) for number, request in enumerate(demo.requests)]
        with ray_session(config.cluster, NAMESPACE):
            learner = start_learner(config, demo.model_dir, None)
            reports[num_ranks] = [learner.update(step + 1, groups) for step in range(NUM_UPDATES)]
            open_addresses += listeners_beyond_loopback(psutil.Process())
            if num_ranks == 2 and setting.device == "cuda":
                yield Figures(values={"nccl_bytes": _nccl_bytes(learner)})
            learner.stop()
    yield at_least(f"{name}, packs of the rank that has fewer", min(_num_packs(config, groups)), 1)
    for step, (one, two) in enumerate(zip(*(reports[count] for count in (1, 2)), strict=True), start=1):
        for field in ("loss", "grad_norm"):
            wanted, found = (getattr(report, field) for report in (one, two))
            difference = abs(found - wanted) / max(abs(wanted), 1e-6)
            yield at_most(f"{name}, update {step}, {field}", difference, LIMITS[setting.device])
    addresses = ", ".join(sorted(set(open_addresses))) or "none"
    yield holds("addresses beyond loopback that a process listens on", not open_addresses, addresses, "none")


def config_of(setting: Setting, num_ranks: int) -> RunConfig:
    """Return a configuration whose learner alone has cards, one for each rank."""
    of_device = ("learner.num_gpus=1", "rollout.num_gpus=0") if setting.device == "cuda" else ()
    return smoke_config(setting, *of_device, *OF_LEARNER, f"learner.num_ranks={num_ranks}")


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _num_packs(config: RunConfig, groups: Sequence[ScoredGroup]) -> list[int]:
    """Return the number of packs by rank, in each update."""
    useful = training_groups(groups, config.algorithm, config.rollout.max_new_tokens)
    num_ranks = config.learner.num_ranks
    return [len(rank_share(useful, config.learner.max_pack_tokens, rank, num_ranks).packs) for rank in range(num_ranks)]


def _scored(number: int, prompt: tuple[int, ...]) -> ScoredGroup:
    """Return completions of random tokens, half of them right."""
    rng = random.Random(number)
    completions = tuple(
        Completion(
            text="",
            token_ids=tuple(rng.randrange(FIRST_TOKEN, FIRST_TOKEN + 1000) for _ in range(length)),
            logprobs=(-6.0,) * length,
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for length in LENGTHS[number]
    )
    question = Question(question_id=f"q{number}", database_id="proof", text="", gold_sql=("SELECT 1",))
    rollout = RolloutGroup(
        group_id=question.question_id,
        question=question,
        prompt_token_ids=prompt,
        temperature=1.0,
        seed=number,
        completions=completions,
    )
    outcomes = ((Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.0)) * (len(completions) // 2)
    return ScoredGroup(
        rollout=rollout,
        scores=tuple(Score(outcome=outcome, reward=reward, seconds=0.0) for outcome, reward in outcomes),
    )


def listeners_beyond_loopback(root: psutil.Process) -> list[str]:
    """Return the addresses at which a process or one of its descendants can be reached from outside."""
    found = []
    for process in root.children(recursive=True):
        try:
            connections = process.net_connections("inet")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        found += [
            f"{one.laddr.ip}:{one.laddr.port} of {process.name()}"
            for one in connections
            if one.status == psutil.CONN_LISTEN and not _is_loopback(one.laddr.ip)
        ]
    return found


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _nccl_bytes(learner: Any) -> int:
    """Return the bytes that one more communicator of both ranks takes of a card."""
    ranks: Sequence[Any] = learner._ranks
    num_bytes: int = max(ray.get([rank.__ray_call__.remote(_communicator_bytes) for rank in ranks]))
    return num_bytes


def _communicator_bytes(_: object) -> int:
    import torch

    values = torch.zeros(2**20, device="cuda")
    torch.cuda.synchronize()
    before_bytes = torch.cuda.mem_get_info()[0]
    group = torch.distributed.new_group(backend="nccl")
    torch.distributed.all_reduce(values, group=group)
    torch.cuda.synchronize()
    return before_bytes - torch.cuda.mem_get_info()[0]
