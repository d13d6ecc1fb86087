"""An engine's course, in a process of its own: install, generate, break off, sleep, wake up, generate again.

`python -m tests.engine_course sync|async MODEL_DIR` prints one JSON line. With `async` vLLM schedules a step ahead of
the tokens, as it does by default on a GPU and never on a CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import vllm.platforms.cpu
from transformers import AutoConfig

from floe.actors.engine.vllm_engine import VllmEngine
from floe.actors.engine.vllm_prompt_sharing import PromptSharing
from floe.cluster.messages import AdapterManifest, GroupRequest, Question, RolloutGroup
from floe.cluster.preflight.sample_adapter import random_adapter
from floe.configs.files.loading import load_config
from floe.learner.adapter.export import export_blob

PROMPT_TOKENS = (40, 75, 9)
OVERRIDES = [
    "rollout.kv_cache_gib=1", "rollout.max_num_seqs=16", "rollout.dtype=float32", "model.dtype=float32",
    "model.max_context_tokens=256", "rollout.max_new_tokens=64",
]  # fmt: skip
STOP = "w7"


def main(schedule: str, model_dir: Path) -> None:
    if schedule == "async":
        schedule_ahead()
    config = load_config(None, OVERRIDES)
    engine = VllmEngine(model_dir, config.model, config.rollout, config.lora, (STOP,), can_sleep=True)
    core = engine._engine.engine_core.engine_core
    shape = AutoConfig.from_pretrained(model_dir)
    manifests = [
        export_blob(random_adapter(shape, config.lora, seed), config.lora, seed, lambda blob: [blob.copy()], "float32")
        for seed in range(2)
    ]
    digests = [install(engine, manifests[0])]
    first = list(engine.generate(requests(), 0))
    broken_off = engine.generate(requests(seed=5), 0)
    next(broken_off)
    broken_off.close()
    num_in_flight = len(core.batch_queue or ())
    engine.sleep()
    num_asleep = len(core.batch_queue or ())
    woken = [receipt.digest for receipt in engine.wake_up()]
    again = list(engine.generate(requests(), 0))
    canary = engine.canary_logprobs(requests()[1].prompt_token_ids, 0)
    next(iter(engine.generate(requests(), 0)))
    digests.append(install(engine, manifests[1]))
    num_installed = len(core.batch_queue or ())
    found = {
        "scheduler": type(core.scheduler).__name__,
        "digests": digests,
        "woken": woken,
        "in_flight": num_in_flight,
        "in_flight_asleep": num_asleep,
        "in_flight_installed": num_installed,
        "groups": [by_question(first), by_question(again), by_question(engine.generate(requests(), 1))],
        "canary": canary,
        "num_prompt_tokens": PROMPT_TOKENS,
        "unasked_counts": len(PromptSharing._num_computed),
    }
    print(json.dumps(found), flush=True)


def schedule_ahead() -> None:
    """Undo that vLLM's CPU platform switches asynchronous scheduling off."""
    platform = vllm.platforms.cpu.CpuPlatform
    check = platform.check_and_update_config.__func__

    def check_and_switch_on(cls, config) -> None:
        check(cls, config)
        config.scheduler_config.async_scheduling = True

    platform.check_and_update_config = classmethod(check_and_switch_on)


def install(engine: VllmEngine, manifest: AdapterManifest) -> str:
    return engine.install(manifest, manifest.blob_ref[0].data).digest


def requests(seed: int = 0) -> list[GroupRequest]:
    """Return groups of which each ends at another time, by the stop text, the end token or the limit."""
    return [
        GroupRequest(
            group_id=str(index), question=Question(question_id=f"q{index}", database_id="", text="", gold_sql=()),
            prompt_token_ids=tuple(2 + (index + 3 * place) % 60 for place in range(num_tokens)), num_samples=5,
            temperature=1.0, seed=seed + 1000 * index, max_new_tokens=(6, 24, 48)[index],
        )
        for index, num_tokens in enumerate(PROMPT_TOKENS)
    ]  # fmt: skip


def by_question(groups) -> list[dict]:
    return [plain(group) for group in sorted(groups, key=lambda group: group.question.question_id)]


def plain(group: RolloutGroup) -> dict:
    return {
        "tokens": [one.token_ids for one in group.completions],
        "logprobs": [one.logprobs for one in group.completions],
        "truncated": [one.truncated for one in group.completions],
        "num_computed": group.num_computed_prompt_tokens,
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
