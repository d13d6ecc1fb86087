"""The placement that a run takes: from the memory plan, and never by hand where a GPU is shared."""

import re
from functools import partial

import pytest

from floe.cluster.memory_plan import plan_memory
from floe.cluster.memory_plan.colocate import with_colocation
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.sections.colocation import Colocation
from tests.command_line import REPOSITORY

GB = 10**9


def decided(budget_gb: float, *overrides: str) -> tuple[Colocation | str, str]:
    dtypes = ["model.dtype=bfloat16", "rollout.dtype=bfloat16"]
    config = load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [*dtypes, *overrides])
    found = with_colocation(config, lambda: shape_of(config), lambda: int(budget_gb * GB))
    return found.config.cluster.colocation, found.line


def test_the_first_placement_that_fits_is_taken():
    colocation, line = decided(26)
    assert colocation is Colocation.RESIDENT
    assert re.fullmatch(r"engine and learner: resident, 2\d\.\d of 24\.2 GiB at the peak", line)
    assert decided(80)[0] is Colocation.RESIDENT


def test_with_less_memory_the_two_take_turns():
    found = [decided(budget)[0] for budget in (23, 22, 21, 20)]
    assert Colocation.RESIDENT not in found[1:] or found == sorted(found, key=list(Colocation).index)
    assert any(one is not Colocation.RESIDENT for one in found)


def test_nothing_that_fits_is_said_with_what_to_change():
    with pytest.raises(UserError, match=r"don't fit into the GPU's 7\.5 GiB in any placement: "):
        decided(8)


def test_what_is_configured_is_taken_without_a_plan():
    def unasked() -> int:
        raise AssertionError("nobody asked for a plan")

    config = load_config(None, ["cluster.colocation=engine_sleeps"])
    assert with_colocation(config, unasked, unasked).config.cluster.colocation is Colocation.ENGINE_SLEEPS
    on_cpu = with_colocation(load_config(None, []), unasked, unasked)
    assert on_cpu.config.cluster.colocation is Colocation.RESIDENT
    assert (on_cpu.line, on_cpu.kv_cache_bytes) == ("engine and learner share no GPU", None)
    forced = [*OWN_GPUS, "cluster.colocation=resident"]
    assert with_colocation(load_config(None, forced), unasked, unasked).config.cluster.colocation is Colocation.RESIDENT


OWN_GPUS = ["rollout.num_gpus=1", "learner.num_gpus=1", "rollout.gpu_memory_share=0.85"]


def test_a_gpu_of_its_own_that_is_too_small_ends_the_run_before_it_starts():
    colocation, line = decided(40, *OWN_GPUS)
    assert colocation is Colocation.RESIDENT and line.startswith("engine and learner share no GPU, ")
    with pytest.raises(UserError, match=r"don't fit into a GPU of their own of 5\.6 GiB: .*'floe plan' shows"):
        decided(6, *OWN_GPUS)


def test_engines_on_a_shared_gpu_are_told_the_planned_size_of_their_cache():
    """Asked to find out, vLLM counts what the learner takes meanwhile as its own."""
    dtypes = ["model.dtype=bfloat16", "rollout.dtype=bfloat16"]
    path = REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml"
    for colocation in ("auto", *Colocation):
        config = load_config(path, [*dtypes, f"cluster.colocation={colocation}"])
        found = with_colocation(config, partial(shape_of, config), lambda: 26 * GB)
        plan = plan_memory(found.config, shape_of(config), 26 * GB)
        assert plan.chosen is not None and found.kv_cache_bytes == plan.chosen.kv_bytes > 0
    own = load_config(path, [*dtypes, *OWN_GPUS])
    assert with_colocation(own, lambda: shape_of(own), lambda: 26 * GB).kv_cache_bytes is None
    scarce = load_config(path, [*dtypes, "cluster.colocation=resident", "rollout.gpu_memory_share=0.1"])
    assert with_colocation(scarce, lambda: shape_of(scarce), lambda: 26 * GB).kv_cache_bytes is None
