"""Part 7: engine and learner are started as in a run, again and again: the KV cache always has the same size."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import ray

from floe.actors.questions.question_sets import load_question_sets
from floe.cluster.models.model_folder import model_folder
from floe.cluster.prove.gpu.engine_alone import NAMESPACE
from floe.cluster.prove.gpu.engine_under_proof import ask, describe, smoke_config
from floe.cluster.prove.gpu.findings import Line, Setting, at_most, told
from floe.cluster.ray_actors.placement import ray_session
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.training.attempt import _start_actors
from floe.configs.schema import RunConfig

SHARED = ("rollout.num_gpus=0.5", "learner.num_gpus=0.5")
FIRST_ENGINE = "rollout-0"


def prove(setting: Setting) -> Iterator[Line]:
    config = config_of(setting)
    num_tokens = [_kv_tokens(config) for _ in range(2 if setting.is_quick else 5)]
    yield told("tokens of the KV cache at each start", ", ".join(f"{one:,}" for one in num_tokens))
    yield at_most("difference between the starts", max(num_tokens) - min(num_tokens), 0, " tokens")


def config_of(setting: Setting) -> RunConfig:
    of_device = SHARED if setting.device == "cuda" else ()
    return smoke_config(setting, "cluster.colocation=resident", "reward.num_workers=1", *of_device)


def _kv_tokens(config: RunConfig) -> int:
    """Start a run's actors, end them, and return the tokens of the KV cache."""
    demo_dir = config.run.home_dir / "demo"
    sets = load_question_sets(config.data, demo_dir)
    run = SimpleNamespace(
        config=config,
        sets=sets,
        model_dir=model_folder(config, demo_dir),
        progress=Progress(make_console(stderr=True), 1),
        kv_cache_bytes=None,  # the engine measures what there is
    )
    with ray_session(config.cluster, NAMESPACE):
        _, rollouts, learner = _start_actors(run, None)  # type: ignore[arg-type]
        found = ask(ray.get_actor(FIRST_ENGINE), describe)
        rollouts.stop()
        learner.stop()
    num_tokens: int = found.num_kv_blocks * found.kv_block_tokens
    return num_tokens
