"""The record's parts that measure speed, by the benches' own results. Each is a function of its name."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.bench.choice import Choice
from floe.cluster.bench.learner.learner_cases import MAX_PACK_TOKENS, Case
from floe.cluster.bench.targets import Target
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.cluster.precision.resolved import with_precision
from floe.cluster.record.learning_parts import ALONE, precision_text
from floe.cluster.record.part_result import Figure, PartResult, figures_of
from floe.cluster.record.parts import Setting
from floe.configs.files.loading import load_config
from floe.configs.files.yaml_text import flow_text
from floe.configs.schema import RunConfig

NUM_ROUNDS = 3
LEARNER_SHAPES = (
    Case(prompt_tokens=150, completion_tokens=24, group_size=16),
    Case(prompt_tokens=600, completion_tokens=60, group_size=16),
)
QUICK_SHAPES = (Case(prompt_tokens=20, completion_tokens=6, group_size=4),)
QUICK = ("model.path=embedded:tiny-qwen2", "model.max_context_tokens=256", "rollout.kv_cache_gib=1")


def learner(setting: Setting) -> PartResult:
    from floe.cluster.bench.learner import learner_bench

    config = _config(setting, f"learner.max_pack_tokens={MAX_PACK_TOKENS}")
    shapes = QUICK_SHAPES if setting.is_quick else LEARNER_SHAPES
    report = learner_bench.measured_learner(config, Choice(shapes=shapes, num_rounds=_rounds(setting)))
    return _result("learner", setting, config, report.targets, report.notes)


def rollout(setting: Setting) -> PartResult:
    from floe.cluster.bench import rollout_bench

    config = _config(setting)
    shapes = QUICK_SHAPES if setting.is_quick else ()
    tallies = rollout_bench.measured_rollout(config, Choice(shapes=shapes, num_rounds=_rounds(setting)))
    return _result("rollout", setting, config, rollout_bench.targets_of(tallies), (f"{_rounds(setting)} rounds",))


def reward(setting: Setting) -> PartResult:
    from floe.cluster.bench.reward import reward_bench

    config = _config(setting)
    num_questions, num_rounds = (60, 2) if setting.is_quick else (reward_bench.NUM_QUESTIONS, reward_bench.NUM_ROUNDS)
    found = reward_bench.measured_reward(config, num_questions, num_rounds)
    kept = tuple(
        Figure(name=f"{one.name}, share of what is allowed", value=one.value / one.at_most, at_most=_bar(setting, 1.0))
        for one in found.figures
    )
    notes = (f"{num_questions} questions, {num_rounds} rounds",)
    return _result("reward", setting, config, found.targets, notes, kept)


def sync(setting: Setting) -> PartResult:
    from floe.cluster.bench import sync_bench

    config = _config(setting)
    num_rounds = 2 if setting.is_quick else sync_bench.NUM_ROUNDS
    rows = sync_bench.measured_sync(config, num_rounds)
    return _result("sync", setting, config, sync_bench.targets_of(rows), (f"medians of {num_rounds} rounds",))


def trl(setting: Setting) -> PartResult:
    from floe.cluster.bench.whole_step import step_bench

    config = _config(setting, *step_bench.BENCH_OVERRIDES, *(QUICK if setting.is_quick else ()))
    found = step_bench.measured_steps(config, Choice(num_rounds=_rounds(setting)))
    left_out = (f"{name} is left out: {why}" for name, why in found.left_out.items())
    return _result("trl", setting, config, found.targets, (*found.notes, *left_out))


def _rounds(setting: Setting) -> int:
    return 1 if setting.is_quick else NUM_ROUNDS


def _config(setting: Setting, *overrides: str) -> RunConfig:
    """Return the configuration with its precision decided, so that the record can say it."""
    given = [f"run.home={flow_text(str(setting.home_dir))}", ALONE, *(QUICK if setting.is_quick else ()), *overrides]
    config = load_config(None, given)
    return with_precision(config, lambda: shape_of(config)).config


def _result(
    part: str,
    setting: Setting,
    config: RunConfig,
    targets: Sequence[Target],
    notes: tuple[str, ...],
    more: tuple[Figure, ...] = (),
) -> PartResult:
    """Return the figures; a trial's sizes have no bars."""
    figures = (*figures_of(targets), *more)
    if setting.is_quick:
        figures = tuple(Figure(name=one.name, value=one.value) for one in figures)
    return PartResult(
        part=part,
        is_complete=True,
        precision=precision_text(config.model.dtype, config.rollout.dtype),
        notes=notes,
        figures=figures,
    )


def _bar(setting: Setting, value: float) -> float | None:
    return None if setting.is_quick else value
