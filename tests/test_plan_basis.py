"""What a memory plan is made from: the card as NVML reads it, what was measured on it, the host, pairs on GPUs."""

import json
import re
from dataclasses import replace

import pytest

from floe.cluster.machine.card_figures import CardFigures, write_figures
from floe.cluster.machine.gpus import Gpu, GpuReading
from floe.cluster.memory_plan import plan_memory
from floe.cluster.memory_plan.basis import PlanBasis
from floe.cluster.memory_plan.card_sizes import ASSUMED_CARD, CARD_SIZES
from floe.cluster.memory_plan.host_memory import asleep_engine_bytes
from floe.cluster.memory_plan.measured import read_measured
from floe.cluster.memory_plan.of_machine import card_of, host_total_bytes, plan_at_start
from floe.cluster.memory_plan.overheads import Overheads
from floe.cluster.memory_plan.phases import Device, Phase, Role
from floe.cluster.memory_plan.placements import Sharing
from floe.cluster.memory_plan.shapes.published import QWEN, published_shape
from floe.cluster.memory_plan.verdict import verdict
from floe.cluster.precision.measurement import read_gpu
from floe.cluster.preflight.finding import Level
from floe.cluster.preflight.gpus import gpus
from floe.cluster.preflight.planned_memory import judge
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.colocation import Colocation
from tests.command_line import REPOSITORY

GIB = 2**30
L4 = Gpu(
    name="NVIDIA L4", total_bytes=int(22.49 * GIB), free_bytes=22 * GIB, capability=(8, 9), reserved_bytes=GIB // 3
)
READING = GpuReading(gpus=(L4,), driver="580.65", driver_cuda="13.0", torch_cuda="13.0", torch_sees_gpus=True)
SHAPE_3B = published_shape(f"{QWEN}-3B")


def config_of(*changes: str) -> RunConfig:
    given = ("data.questions=q.json", "data.databases=d", "model.dtype=bfloat16", "rollout.dtype=bfloat16")
    return load_config(REPOSITORY / "configs" / "qwen25_coder_3b_24gb.yaml", [*given, *changes])


# The card


def test_the_smallest_card_counts_with_what_cuda_shows_of_it(tmp_path):
    config = config_of(f"run.home={tmp_path}")
    larger = replace(L4, name="NVIDIA A100", total_bytes=40 * GIB)
    card = card_of(config, replace(READING, gpus=(larger, L4)))
    assert (card.name, card.usable_bytes, card.is_assumed) == ("NVIDIA L4", L4.total_bytes - GIB // 3, False)
    assert not card.overheads.measured


def test_without_a_card_the_smallest_of_24_gb_is_assumed(tmp_path):
    card = card_of(config_of(f"run.home={tmp_path}"), GpuReading())
    assert (card.usable_bytes, card.is_assumed) == (ASSUMED_CARD.usable_bytes, True)
    seen = {"L4": 21.96, "A10": 22.06, "A10 with an older driver": 22.18, "RTX 4090": 23.6}  # GiB, as users report them
    assert all(card.usable_bytes <= gib * GIB for gib in seen.values()) and card.usable_bytes > 21.9 * GIB


def test_the_driver_asks_nvml_for_the_card_and_not_cuda(monkeypatch):
    def opened(*_):
        raise AssertionError("this opens a CUDA context")

    for name in ("get_device_properties", "get_device_capability", "get_device_name", "mem_get_info"):
        monkeypatch.setattr(f"torch.cuda.{name}", opened)
    monkeypatch.setattr("floe.cluster.precision.measurement.read_gpus", lambda: READING, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    found = read_gpu()
    assert found is not None and (found.name, found.has_bfloat16) == ("NVIDIA L4", True)


def test_no_file_of_the_driver_asks_cuda_for_a_device():
    """Benches and proofs compute on it themselves."""
    sources = [
        path
        for path in (REPOSITORY / "cluster").rglob("*.py")
        if not {"bench", "prove"} & set(path.relative_to(REPOSITORY).parts)
    ]
    asking = [path.name for path in sources if re.search(r"torch\.cuda\.(?!is_available)", path.read_text())]
    assert sources and not asking


def test_a_driver_that_is_too_old_and_a_card_that_nobody_asked_for():
    """NVML sees the card, and PyTorch for CUDA 13 can't use it with a driver for 12.4."""
    old = replace(READING, driver="550.1", driver_cuda="12.4", torch_sees_gpus=False)
    found = gpus(config_of(), old, joins_cluster=False)
    assert "can't use the GPU with driver 550.1, which runs CUDA 12.4 at most" in found.sentence
    assert "which the run does not use" in gpus(load_config(None, []), old, joins_cluster=False).sentence


# What was measured


def test_what_was_measured_takes_the_place_of_the_constants(tmp_path):
    figures = CardFigures(
        card="NVIDIA L4", measured_on="2026-11-30", usable_bytes=22 * GIB, cuda_context_bytes=300 * 2**20, nccl_bytes=0
    )
    path = write_figures(tmp_path, figures)
    assert path == tmp_path / "gpu" / "nvidia-l4.json"
    found = read_measured(tmp_path, "NVIDIA L4")
    assert found is not None
    assert (found.cuda_context_bytes, found.nccl_bytes, found.usable_bytes) == (300 * 2**20, 0, 22 * GIB)
    assert found.cuda_graphs_bytes == Overheads().cuda_graphs_bytes
    assert found.measured == ("cuda_context_bytes", "nccl_bytes") and "measured on this card on 20" in found.sentence
    assert read_measured(tmp_path, "NVIDIA A10") is None and "assumed" in Overheads().sentence
    card = card_of(config_of(f"run.home={tmp_path}"), READING)
    assert (card.usable_bytes, card.overheads) == (22 * GIB, found)


def test_the_plan_takes_the_measured_figures():
    before, after = (
        plan_memory(config_of(), SHAPE_3B, 24 * GIB, PlanBasis(overheads=known)).options[0]
        for known in (Overheads(), Overheads(cuda_context_bytes=GIB))
    )
    for one, other in zip(before.phases, after.phases, strict=True):
        assert other.num_bytes - one.num_bytes == 2 * (GIB // 2)  # a context for each of the two processes


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"nccl_bytes": "much"}', '{"nccl_bytes": -1}', '{"allocator_slack_share": 1.5}']
)
def test_measurements_that_are_none_are_refused_by_name(tmp_path, text):
    path = tmp_path / "gpu" / "nvidia-l4.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"nvidia-l4\.json' does not hold what was measured.*make prove-gpu"):
        read_measured(tmp_path, "NVIDIA L4")


def test_a_figure_that_was_not_measured_may_be_left_out_or_null(tmp_path):
    path = tmp_path / "gpu" / "nvidia-l4.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"card": "NVIDIA L4", "measured_on": "2026-12-01", "nccl_bytes": None}))
    assert read_measured(tmp_path, "NVIDIA L4") == Overheads(measured_on="2026-12-01")


# The parts by name


def test_contexts_workspaces_graphs_and_nccl_are_parts_of_their_own():
    phases = {one.phase: one for one in plan_memory(config_of(), SHAPE_3B, 24 * GIB).options[0].phases}
    named = {(item.role, item.name): item.num_bytes for item in phases[Phase.GENERATING].items}
    known = Overheads()
    for role in (Role.ENGINE, Role.LEARNER):
        assert named[role, "CUDA context"] == known.cuda_context_bytes
        assert named[role, "cuBLAS workspaces"] == known.cublas_workspace_bytes
    assert named[Role.ENGINE, "CUDA graphs"] == known.cuda_graphs_bytes
    assert named[Role.LEARNER, "NCCL"] == known.nccl_bytes


def test_the_engines_context_lies_outside_of_its_share():
    given = config_of("rollout.gpu_memory_share=0.5")
    option = plan_memory(given, SHAPE_3B, 24 * GIB).options[0]
    held = option.phases[0].role_bytes(Role.ENGINE)
    assert held - 12 * GIB == Overheads().cuda_context_bytes


def test_a_warm_start_is_a_phase_without_an_engine_and_the_check_of_the_start_one_with():
    given = config_of("warm_start.enabled=true")
    for option in plan_memory(given, SHAPE_3B, 24 * GIB).options:
        phases = {one.phase: one for one in option.phases}
        assert phases[Phase.WARM_START].role_bytes(Role.ENGINE) == 0
        assert phases[Phase.WARM_START].role_bytes(Role.LEARNER) > phases[Phase.LEARNING].role_bytes(Role.LEARNER)
        assert phases[Phase.EQUALITY].role_bytes(Role.ENGINE) == phases[Phase.LEARNING].role_bytes(Role.ENGINE)
        assert phases[Phase.EQUALITY].role_bytes(Role.LEARNER) > phases[Phase.LEARNING].role_bytes(Role.LEARNER)
    without = plan_memory(config_of("warm_start.enabled=false"), SHAPE_3B, 24 * GIB).options[0]
    assert Phase.WARM_START not in {one.phase for one in without.phases}


def test_a_warm_start_without_checkpoints_does_not_fit_24_gb():
    """Counts the learner alone: what its layers keep for the backward pass, and what dropout drew."""
    given = config_of("warm_start.enabled=true", "learner.gradient_checkpointing=false")
    option = plan_memory(given, SHAPE_3B, ASSUMED_CARD.usable_bytes).options[0]
    phases = {one.phase: one for one in option.phases}
    assert phases[Phase.WARM_START].num_bytes > ASSUMED_CARD.usable_bytes


# The host


def test_what_is_pinned_is_rounded_up_to_powers_of_two():
    exact = SHAPE_3B.weight_bytes("bfloat16")
    assert 1.1 * exact < asleep_engine_bytes(SHAPE_3B, "bfloat16", 0) < 2 * exact
    shape_7b = published_shape(f"{QWEN}-7B")
    assert asleep_engine_bytes(shape_7b, "bfloat16", 0) > 1.3 * shape_7b.weight_bytes("bfloat16")


def test_a_placement_whose_host_memory_is_not_there_does_not_fit():
    def found(host_bytes: int | None):
        given = config_of("rollout.gpu_memory_share=0.6")
        return plan_memory(given, SHAPE_3B, 24 * 10**9, PlanBasis(host_bytes=host_bytes)).colocation

    assert found(None) is found(64 * GIB) is Colocation.ENGINE_SLEEPS
    assert found(4 * GIB) is not Colocation.ENGINE_SLEEPS


def test_a_host_that_has_too_little_is_said_to():
    seven = published_shape(f"{QWEN}-7B")
    given = config_of("rollout.gpu_memory_share=0.8", "learner.max_pack_tokens=6144")
    made = plan_memory(given, seven, 26 * GIB, PlanBasis(host_bytes=16 * GIB))
    assert made.colocation is None and made.lacks_host
    assert "GiB lie pinned on the host, which has 16.00" in verdict(made)
    assert "a host with 41 GiB for pinned memory" in verdict(made)
    finding = judge(made, 16 * GIB, is_assumed=False)
    assert finding.level is Level.FAULT and "a host with 41 GiB" in finding.sentence
    enough = plan_memory(given, seven, 26 * GIB, PlanBasis(host_bytes=64 * GIB))
    assert enough.colocation is Colocation.LEARNER_OFFLOADS
    assert judge(enough, 16 * GIB, is_assumed=False).level is Level.WARNING
    assert judge(enough, 64 * GIB, is_assumed=False).level is Level.OK


def test_the_host_of_a_run_that_is_meant_for_another_machine_is_not_asked(tmp_path):
    config = config_of(f"run.home={tmp_path}", "cluster.address=local")
    assert host_total_bytes(config, card_of(config, GpuReading())) is None
    assert (host_total_bytes(config, card_of(config, READING)) or 0) > GIB


def test_pairs_of_one_host_pin_together():
    pinned = [
        plan_memory(
            config_of(f"rollout.num_actors={num}", f"learner.num_ranks={num}", "cluster.colocation=learner_offloads"),
            SHAPE_3B,
            80 * GIB,
        )
        .options[0]
        .host_bytes
        for num in (1, 4)
    ]
    assert pinned[1] == 4 * pinned[0] > 0


# Who shares a card


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("rollout.num_gpus=0.5", "learner.num_gpus=0.5"), (Device.SHARED_GPU, 1, 1)),
        (
            ("rollout.num_gpus=0.5", "learner.num_gpus=0.5", "rollout.num_actors=8", "learner.num_ranks=8"),
            (Device.SHARED_GPU, 1, 1),
        ),
        (
            ("rollout.num_gpus=0.25", "learner.num_gpus=0.25", "rollout.num_actors=2", "learner.num_ranks=2"),
            (Device.SHARED_GPU, 1, 1),
        ),
        (("rollout.num_gpus=0.25", "learner.num_gpus=0.25", "rollout.num_actors=2"), (Device.SHARED_GPU, 2, 1)),
        (("rollout.num_gpus=1", "learner.num_gpus=1", "learner.num_ranks=2"), (Device.OWN_GPUS, 1, 1)),
        (("rollout.num_gpus=0", "learner.num_gpus=0", "learner.num_ranks=2"), (Device.HOST, 1, 2)),
    ],
)
def test_what_one_device_holds(changes, expected):
    found = Sharing.of(config_of(*changes))
    assert (found.device, found.num_engines, found.num_learners) == expected


def test_cards_come_in_the_sizes_of_their_boxes():
    assert [size.name for size in CARD_SIZES] == ["16 GB", "24 GB", "40 GB", "48 GB", "80 GB"]
    for size in CARD_SIZES:
        assert 0.9 * int(size.name.split()[0]) < size.usable_bytes / GIB < int(size.name.split()[0])


def test_a_start_counts_what_the_host_has_free(monkeypatch, tmp_path):
    monkeypatch.setattr("floe.cluster.memory_plan.of_machine._counted_work", lambda config: None)
    monkeypatch.setattr("floe.cluster.memory_plan.of_machine.read_gpus", lambda: READING)
    given = config_of("rollout.gpu_memory_share=0.6", "cluster.address=local", f"run.home={tmp_path}")
    for free_bytes, is_taken in ((64 * GIB, True), (4 * GIB, False)):
        monkeypatch.setattr(
            "floe.cluster.memory_plan.of_machine.free_memory_bytes", lambda found=free_bytes: float(found)
        )
        found = plan_at_start(given, SHAPE_3B, 24 * 10**9).colocation
        assert (found is Colocation.ENGINE_SLEEPS) is is_taken
