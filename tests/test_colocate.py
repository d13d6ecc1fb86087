"""Which placement a run takes: from the memory plan, and never by hand where a GPU is shared."""

import re

import pytest
import ray

from cluster.colocate import with_colocation
from cluster.memory_plan.model_config import shape_of
from cluster.placement import check_resources
from configs.colocation import Colocation
from configs.errors import UserError
from configs.loading import load_config
from tests.command_line import REPOSITORY

GB = 10**9


def decided(budget_gb: float, *overrides: str) -> tuple[Colocation | str, str]:
    dtypes = ["model.dtype=bfloat16", "rollout.dtype=bfloat16"]
    config = load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [*dtypes, *overrides])
    found, line = with_colocation(config, lambda: shape_of(config), lambda: int(budget_gb * GB))
    return found.cluster.colocation, line


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
    assert with_colocation(config, unasked, unasked)[0].cluster.colocation is Colocation.ENGINE_SLEEPS
    on_cpu, line = with_colocation(load_config(None, []), unasked, unasked)
    assert (on_cpu.cluster.colocation, line) == (Colocation.RESIDENT, "engine and learner share no GPU")
    own = load_config(None, ["rollout.num_gpus=1", "learner.num_gpus=1"])
    assert with_colocation(own, unasked, unasked)[0].cluster.colocation is Colocation.RESIDENT


class Where:
    """Says which GPUs Ray gave it."""

    def gpu_ids(self) -> list:
        return ray.get_gpu_ids()


@pytest.mark.engine
def test_on_declared_gpus_engine_and_learner_get_the_same_card():
    config = load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [])
    ray.init(address="local", num_cpus=8, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        check_resources(config)
        asked = [(role.num_cpus, role.num_gpus) for role in (config.rollout, config.learner)]
        handles = [ray.remote(Where).options(num_cpus=cpus, num_gpus=gpus).remote() for cpus, gpus in asked]
        engine, learner = ray.get([handle.gpu_ids.remote() for handle in handles])
        assert len(engine) == 1 and engine == learner
        with pytest.raises(UserError, match="GPU"):
            check_resources(load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", ["rollout.num_actors=8"]))
    finally:
        ray.shutdown()
