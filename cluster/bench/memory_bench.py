"""`floe bench memory`: what engine and learner really hold on the CPU, compared with the plan.

One role at a time, each in the actor that a run would have, on random tokens: an engine that fills its batch and its KV
cache, and a learner that makes two updates of one question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import ray
from rich import box
from rich.table import Table

from floe.cluster.bench.learner.peak_memory import ResidentPeak
from floe.cluster.bench.random_model import write_random_model
from floe.cluster.memory_plan.phases import Role
from floe.cluster.memory_plan.process_plan import process_bytes
from floe.cluster.memory_plan.shapes.published import QWEN, published_shape
from floe.cluster.messages import Completion, GroupRequest, Outcome, Question, RolloutGroup, Score, ScoredGroup
from floe.cluster.models.model_folder import SMOLLM2, model_folder
from floe.cluster.ray_actors.placement import ray_session, start_learner, start_rollout_pool
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

GIB = 2**30
SHAPES = {
    "SmolLM2-135M": SMOLLM2,
    "Qwen2.5-Coder-0.5B": f"{QWEN}-0.5B",
    "Qwen2.5-Coder-1.5B": f"{QWEN}-1.5B",
    "Qwen2.5-Coder-3B": f"{QWEN}-3B",
}
MAX_DEVIATION = 0.15
PROMPT_TOKENS = 224
COMPLETION_TOKENS = 32
GROUP_SIZE = 16
FIRST_TOKEN = 100  # below are special tokens, which could end a completion
NUM_UPDATES = 2  # the first one makes the optimiser's moments
BENCH_OVERRIDES = (
    "model.dtype=bfloat16",  # bytes are measured here, whichever type computes fast
    "rollout.dtype=bfloat16",
    f"model.max_context_tokens={PROMPT_TOKENS + COMPLETION_TOKENS}",
    f"rollout.max_new_tokens={COMPLETION_TOKENS}",
    f"rollout.group_size={GROUP_SIZE}",
    f"rollout.max_num_seqs={GROUP_SIZE}",
    "rollout.kv_cache_gib=1",
    f"learner.max_pack_tokens={PROMPT_TOKENS + GROUP_SIZE * COMPLETION_TOKENS}",
    "algorithm.kl_coefficient=0",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    shape: str
    role: str
    planned_bytes: int
    measured_bytes: int  # resident, at the peak of its work
    starting_bytes: int  # resident, at the peak of its start: files that are being read count as resident too

    @property
    def ratio(self) -> float:
        return self.planned_bytes / self.measured_bytes

    @property
    def is_within(self) -> bool:
        return abs(self.ratio - 1) <= MAX_DEVIATION


def bench_memory(config: RunConfig, shapes: Sequence[str], as_json: bool) -> None:
    """Print the table, or JSON; progress goes to stderr. Raises UserError for a shape that is not in `SHAPES`."""
    unknown = sorted(set(shapes) - set(SHAPES))
    if unknown:
        raise UserError(f"--shape is '{unknown[0]}', which is not measured: use one of {', '.join(SHAPES)}.")
    progress = Progress(make_console(stderr=True))
    rows: list[Measured] = []
    with redirect_stdout(sys.stderr):
        for shape in shapes or SHAPES:
            with _model(config, SHAPES[shape], progress) as folder:
                for role, work in ((Role.ENGINE, _engine_peaks), (Role.LEARNER, _learner_peaks)):
                    progress.phase(f"{shape}, {role}")
                    rows.append(_measured(config, shape, role, work, folder))
                    progress.note(
                        f"{rows[-1].measured_bytes / GIB:.2f} GiB, planned {rows[-1].planned_bytes / GIB:.2f}"
                    )
    if as_json:
        print(json.dumps([asdict(row) | {"ratio": row.ratio, "is_within": row.is_within} for row in rows], indent=2))
    else:
        _render(rows)


@contextmanager
def _model(config: RunConfig, name: str, progress: Progress) -> Iterator[Path]:
    if name == SMOLLM2:
        yield model_folder(config, config.run.home_dir / "demo")
        return
    with TemporaryDirectory(prefix="floe-bench-") as folder:
        progress.phase(f"random weights of {name}")
        write_random_model(Path(folder), name)
        yield Path(folder)


def _measured(
    config: RunConfig, shape: str, role: Role, work: Callable[[RunConfig, Path, int], tuple[int, int]], folder: Path
) -> Measured:
    dimensions = published_shape(SHAPES[shape])
    with ray_session(config.cluster, "floe-bench"):
        starting_bytes, measured_bytes = work(config, folder, dimensions.vocabulary)
    return Measured(
        shape=shape,
        role=str(role),
        planned_bytes=process_bytes(config, dimensions, role, PROMPT_TOKENS, COMPLETION_TOKENS),
        measured_bytes=measured_bytes,
        starting_bytes=starting_bytes,
    )


def _engine_peaks(config: RunConfig, folder: Path, vocabulary: int) -> tuple[int, int]:
    """Return the bytes at the peaks of start and work."""
    with ResidentPeak.of_children("ray::RolloutActor") as starting:
        pool = start_rollout_pool(config, folder)
    actor = ray.get_actor("rollout-0")
    with ResidentPeak.of_children("ray::RolloutActor") as working:
        ray.get(actor.__ray_call__.remote(_fill_cache))
        list(pool.generate(_requests(vocabulary), None))
    ray.kill(actor)
    return starting.num_bytes, working.num_bytes


def _learner_peaks(config: RunConfig, folder: Path, vocabulary: int) -> tuple[int, int]:
    with ResidentPeak.of_children("ray::LearnerActor") as starting:
        learner = start_learner(config, folder, None)
    with ResidentPeak.of_children("ray::LearnerActor") as working:
        for step in range(NUM_UPDATES):
            learner.update(step + 1, [_scored_group(vocabulary)])
    learner.stop()
    return starting.num_bytes, working.num_bytes


def _fill_cache(actor: Any) -> None:
    """Fill the cache: a page becomes resident when it is first used, as all of them are in a long run."""
    actor._engine._engine.collective_rpc(_fill_cache_of_worker)


def _fill_cache_of_worker(worker: Any) -> None:
    for cache in worker.model_runner.kv_caches:
        cache.fill_(0)


def _tokens(rng: Random, vocabulary: int, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(FIRST_TOKEN, vocabulary) for _ in range(count))


def _requests(vocabulary: int) -> list[GroupRequest]:
    """Return prompts that fill a batch of the engine, and enough candidates for all its sequences."""
    rng = Random(0)
    return [
        GroupRequest(
            group_id=str(number),
            question=_question(str(number)),
            prompt_token_ids=_tokens(rng, vocabulary, PROMPT_TOKENS),
            num_samples=2,
            temperature=1.0,
            max_new_tokens=COMPLETION_TOKENS,
            seed=number,
        )
        for number in range(GROUP_SIZE)
    ]


def _question(name: str) -> Question:
    return Question(question_id=name, database_id="bench", text="", gold_sql=("SELECT 1",))


def _scored_group(vocabulary: int) -> ScoredGroup:
    rng = Random(0)
    completions = tuple(
        Completion(
            text="",
            token_ids=_tokens(rng, vocabulary, COMPLETION_TOKENS),
            logprobs=(-1.0,) * COMPLETION_TOKENS,
            truncated=False,
            oldest_adapter_version=0,
            newest_adapter_version=0,
        )
        for _ in range(GROUP_SIZE)
    )
    rollout = RolloutGroup(
        group_id="",
        question=_question("bench"),
        prompt_token_ids=_tokens(rng, vocabulary, PROMPT_TOKENS),
        temperature=1.0,
        seed=0,
        completions=completions,
    )
    rewards = [1.0 if number % 2 else 0.0 for number in range(GROUP_SIZE)]
    scores = tuple(Score(outcome=Outcome.MATCH if r else Outcome.MISMATCH, reward=r, seconds=0.0) for r in rewards)
    return ScoredGroup(rollout=rollout, scores=scores)


def _render(rows: Sequence[Measured]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("shape", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for heading in ("planned, GiB", "measured", "ratio", "at the start", "within 15 %"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.shape,
            row.role,
            f"{row.planned_bytes / GIB:.2f}",
            f"{row.measured_bytes / GIB:.2f}",
            f"{row.ratio:.2f}",
            f"{row.starting_bytes / GIB:.2f}",
            "yes" if row.is_within else "no",
        )
    make_console().print(table)
