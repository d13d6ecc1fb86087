"""model.dtype and rollout.dtype left open: the decision, its record, and its use by a resume and an evaluation."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.checkpoints.resume_rules import changed_keys, check_resume
from floe.cluster.environment import MASKS
from floe.cluster.machine import processor
from floe.cluster.memory_plan.shapes.published import published_shape
from floe.cluster.precision import resolved
from floe.cluster.precision.decision import WORTH_ANOTHER, decide
from floe.cluster.precision.measurement import measure_cpu
from floe.cluster.precision.rates import Machine, ProductRates
from floe.cluster.precision.resolved import with_precision, with_recorded_precision, with_saved_precision
from floe.cluster.preparation.clock import with_clock
from floe.configs.errors import UserError
from floe.configs.files.loading import dump_config, load_config

SMOLLM2 = "embedded:smollm2-135m-instruct"


def machine(bfloat16: float, float32: float, *, has_bfloat16: bool = False, engine: float | None = None) -> Machine:
    """Make a machine with rates in GFLOP/s; `engine` is generation's in bfloat16 where it differs from learning's."""
    return Machine(
        name="made up",
        has_bfloat16=has_bfloat16,
        rates={
            "bfloat16": ProductRates(
                learner_flop_per_s=1e9 * bfloat16, engine_flop_per_s=1e9 * (bfloat16 if engine is None else engine)
            ),
            "float32": ProductRates(learner_flop_per_s=1e9 * float32, engine_flop_per_s=1e9 * float32),
        },
    )


def card(has_bfloat16: bool) -> Machine:
    return Machine(name="a card", has_bfloat16=has_bfloat16, is_gpu=True)


def dtypes(model: str, rollout: str, learners, engines, **options) -> tuple[str, str]:
    found = decide(model, rollout, learners, engines, **options)
    return found.model_dtype, found.rollout_dtype


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_the_measurement_wins_over_the_processors_flags(has_bfloat16):
    slow = machine(bfloat16=1.6, float32=100, has_bfloat16=has_bfloat16)
    fast = machine(bfloat16=400, float32=100, has_bfloat16=has_bfloat16)
    assert dtypes("auto", "auto", [slow], [slow]) == ("float32", "float32")
    assert dtypes("auto", "auto", [fast], [fast]) == ("bfloat16", "bfloat16")


@given(rate=st.floats(1, 1e4), share=st.floats(0.92, 1.08), has_bfloat16=st.booleans())
def test_equal_rates_are_decided_by_the_flags(rate, share, has_bfloat16):
    one = machine(bfloat16=rate, float32=rate * share, has_bfloat16=has_bfloat16)
    assert dtypes("auto", "auto", [one], [one])[0] == ("bfloat16" if has_bfloat16 else "float32")


def test_the_line_names_both_rates_and_the_processor():
    line = decide("auto", "auto", [machine(bfloat16=1.6, float32=100)], [machine(bfloat16=1.6, float32=100)]).line
    assert "learner computes in float32" in line and "bfloat16 2, float32 100" in line and "made up" in line


@given(slow=st.floats(1, 99), engine=st.floats(1, 400))
def test_the_engine_differs_only_where_that_is_clearly_faster(slow, engine):
    one = machine(bfloat16=slow / 2, float32=100, engine=engine)
    expected = "bfloat16" if engine > WORTH_ANOTHER * 100 else "float32"
    assert dtypes("auto", "auto", [one], [one]) == ("float32", expected)


def test_unlike_nodes_decide_once_and_the_slowest_holds():
    new, old = machine(bfloat16=400, float32=100, has_bfloat16=True), machine(bfloat16=2, float32=90)
    assert dtypes("auto", "auto", [new, old], [new, old]) == ("float32", "float32")
    assert dtypes("auto", "auto", [card(True), card(False)], [card(True), card(False)]) == ("float32", "float32")


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_card_decides_for_itself_and_not_this_processor(has, expected):
    here = machine(bfloat16=2, float32=100) if has else machine(bfloat16=400, float32=100, has_bfloat16=True)
    assert dtypes("auto", "auto", [card(has)], [card(has)]) == (expected, expected)
    assert dtypes("auto", "auto", [here], [card(has)])[1] == expected


def test_what_is_configured_stays():
    slow = machine(bfloat16=1.6, float32=100)
    assert dtypes("bfloat16", "auto", [slow], [slow]) == ("bfloat16", "float32")
    assert dtypes("auto", "bfloat16", [slow], [slow]) == ("float32", "bfloat16")
    assert dtypes("bfloat16", "float32", (), ()) == ("bfloat16", "float32")


def test_without_a_master_of_bfloat16_weights_the_learner_takes_float32(monkeypatch):
    fast = machine(bfloat16=400, float32=100, has_bfloat16=True)
    monkeypatch.setattr(resolved, "_machines", lambda config, shape: ((fast,), (fast,)))
    decided = with_precision(load_config(None, ["learner.zero_stage=0"]), lambda: published_shape(SMOLLM2))
    assert decided.config.model.dtype == "float32" and "zero_stage" in decided.line


def test_this_machine_is_measured_at_the_models_shapes():
    """Measure without a time limit, which a slow machine would break; `floe doctor` shows how long it takes."""
    found = measure_cpu(published_shape(SMOLLM2), num_threads=2)
    assert set(found.rates) == {"bfloat16", "float32"}
    assert all(one.learner_flop_per_s > 0 and one.engine_flop_per_s > 0 for one in found.rates.values())


def test_the_measurement_ends_in_time_where_a_precision_is_very_slow(monkeypatch):
    """Check that a slow product is not repeated: the clock runs by a made-up rate."""
    clock, calls = [0.0], []

    def slow_product(left, right):
        calls.append(left.dtype)
        clock[0] += 0.05 if "bfloat16" in str(left.dtype) else 0.001

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr("torch.mm", slow_product)
    measure_cpu(published_shape("Qwen/Qwen2.5-Coder-3B"), num_threads=1)
    assert clock[0] < 3.0 and calls


def test_a_plan_for_a_gpu_that_is_elsewhere_does_not_measure_this_processor(monkeypatch):
    monkeypatch.setattr(resolved, "measure_cpu", lambda *args: pytest.fail("this processor was measured"))
    config = load_config(None, ["learner.num_gpus=0.5", "rollout.num_gpus=0.5", "cluster.address=local"])
    decided = with_precision(config, lambda: published_shape(SMOLLM2))
    assert (decided.config.model.dtype, decided.config.rollout.dtype) == ("bfloat16", "bfloat16")


def test_masks_hide_the_processors_bfloat16(monkeypatch):
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset({"avx2", "avx512f", "amx_bf16"}))
    for name in MASKS:
        monkeypatch.delenv(name, raising=False)
    assert processor.has_bfloat16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not processor.has_bfloat16()


def saved(*overrides: str) -> dict:
    return load_config(None, overrides).model_dump(mode="json")


def test_a_resume_computes_in_what_was_decided():
    checkpoint = saved("model.dtype=float32", "rollout.dtype=bfloat16")
    left_open = load_config(None, [])
    assert check_resume(checkpoint, left_open) == []
    taken = with_saved_precision(left_open, checkpoint)
    assert (taken.model.dtype, taken.rollout.dtype) == ("float32", "bfloat16")
    for key, value in (("model.dtype", "bfloat16"), ("rollout.dtype", "float32")):
        with pytest.raises(UserError, match=key):
            check_resume(checkpoint, load_config(None, [f"{key}={value}"]))


def test_a_checkpoint_from_before_the_engine_had_a_precision_of_its_own_goes_on():
    checkpoint = saved("model.dtype=bfloat16")
    del checkpoint["rollout"]["dtype"]
    assert changed_keys(checkpoint, load_config(None, [])) == []
    with pytest.raises(UserError, match="rollout\\.dtype"):
        check_resume(checkpoint, load_config(None, ["rollout.dtype=float32"]))


@pytest.mark.parametrize("place", [".", "adapters/latest"])
def test_a_runs_adapter_is_evaluated_in_the_runs_precision(tmp_path, place):
    dump_config(load_config(None, ["model.dtype=float32", "rollout.dtype=float32"]), tmp_path / "config.yaml")
    adapter = tmp_path / place
    adapter.mkdir(parents=True, exist_ok=True)
    taken = with_recorded_precision(load_config(None, []), adapter)
    assert (taken.model.dtype, taken.rollout.dtype) == ("float32", "float32")
    assert with_recorded_precision(load_config(None, ["rollout.dtype=bfloat16"]), adapter).rollout.dtype == "bfloat16"
    assert with_recorded_precision(load_config(None, []), None).rollout.dtype == "auto"


@pytest.mark.parametrize("place", [".", "adapters/latest"])
def test_a_runs_adapter_is_evaluated_at_the_runs_clock(tmp_path, place):
    dump_config(load_config(None, ["reward.clock=2024-02-29 13:14:15"]), tmp_path / "config.yaml")
    adapter = tmp_path / place
    adapter.mkdir(parents=True, exist_ok=True)
    assert with_clock(load_config(None, []), adapter).reward.clock == "2024-02-29 13:14:15"
    assert with_clock(load_config(None, ["reward.clock=2001-01-01"]), adapter).reward.clock == "2001-01-01 00:00:00"
