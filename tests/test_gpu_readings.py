"""The readings of a run's cards: by a fake of NVML, in a real thread, through a real Ray, and where they are shown."""

import ast
import importlib.util
import inspect
import io
import json
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import RayActorError
from rich.console import Console

from floe.cluster.evaluation.during_training import InterimEvaluation
from floe.cluster.loop.group_collection import Collected
from floe.cluster.ray_actors import run_gpus as run_gpus_module
from floe.cluster.ray_actors.run_actors import RunActor
from floe.cluster.ray_actors.run_gpus import NoGpus, WatchedDevice, run_gpus
from floe.cluster.report_page.figures import step_figures
from floe.cluster.report_page.step_series import parse_metrics
from floe.cluster.terminal.progress import Progress
from floe.cluster.terminal.run_view import view
from floe.cluster.tracking.gpu_step import GpuPhase, GpuStep, with_allocator
from floe.cluster.tracking.gpu_watch import NodeReadings, NodeWatch
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.tracking.reward_metrics import RewardMeter
from floe.cluster.training.recorder import Measured, RunRecorder
from floe.configs.schema import LearnerSection, RolloutSection, RunConfig
from floe.learner.optimizer.allocator_peaks import AllocatorPeaks, forget_peaks
from floe.learner.step_meter import StepMeter
from tests.command_line import REPOSITORY
from tests.fake_cluster import FakeCluster
from tests.fake_nvml import GIB, FakeCard, FakeNvml, card_use
from tests.scored_groups import scored_group, step_report
from tests.step_records import MIXED, PUBLISHED, TIMINGS, step_record

GENERATE, HANDOVER, LEARN = GpuPhase.GENERATE, GpuPhase.HANDOVER, GpuPhase.LEARN
BOTH = ("learner", "rollout")
NEVER_S = 3600.0  # between two readings of the thread: a test reads by itself


@pytest.fixture
def nvml(monkeypatch):
    """NVML of a machine with two cards, on which a CUDA context would be a fault."""
    found = FakeNvml(FakeCard("GPU-aa"), FakeCard("GPU-bb"))
    monkeypatch.setitem(sys.modules, "pynvml", found)

    def no_context() -> None:
        raise AssertionError("a CUDA context")

    monkeypatch.setattr("torch.cuda._lazy_init", no_context)
    return found


@pytest.fixture
def watch(nvml):
    with closing(NodeWatch(NEVER_S)) as found:
        yield found


def uses_of(watch: NodeWatch) -> dict:
    return {(one.card, one.phase): one for one in watch.take().uses}


# --- one node's watch


def test_the_peak_of_each_phase_is_read(nvml, watch):
    card = nvml.cards[0]
    watch.watch({"rollout": ["0"], "learner": ["0"]})
    for used_gib, busy in ((10, 90), (12, 70), (11, 80)):
        card.used_bytes, card.busy_percent = used_gib * GIB, busy
        watch.read()
    watch.enter(HANDOVER)  # reads once more
    card.used_bytes = 3 * GIB
    watch.enter(LEARN)
    card.used_bytes, card.busy_percent = 20 * GIB, 100
    uses = uses_of(watch)
    assert {key: one.peak_bytes // GIB for key, one in uses.items()} == {
        ("GPU-aa", GENERATE): 12, ("GPU-aa", HANDOVER): 3, ("GPU-aa", LEARN): 20,
    }  # fmt: skip
    generating = uses["GPU-aa", GENERATE]
    assert generating.busy_shares == (0.9, 0.7, 0.8, 0.8)
    assert (generating.total_bytes, generating.roles) == (24 * GIB, BOTH)
    card.used_bytes = GIB
    assert [one.peak_bytes for one in watch.take().uses] == [GIB], "each step begins anew"


@pytest.mark.parametrize(
    ("devices", "cards"),
    [("0", {"GPU-aa"}), ("1", {"GPU-bb"}), ("GPU-b", {"GPU-bb"}), (None, {"GPU-aa", "GPU-bb"}), ("", set())],
)
def test_the_cards_are_those_that_cuda_shows_the_actor(watch, devices, cards):
    watch.watch({"learner": [devices]})
    uses = watch.take().uses
    assert {one.card for one in uses} == cards
    assert all(one.roles == ("learner",) for one in uses)


def test_roles_on_cards_of_their_own(watch):
    watch.watch({"rollout": ["0"], "learner": ["1"]})
    assert {one.card: one.roles for one in watch.take().uses} == {"GPU-aa": ("rollout",), "GPU-bb": ("learner",)}


def test_a_card_that_can_not_be_read_is_a_fault_and_the_others_are_read(nvml, watch):
    nvml.cards[0].memory_fault = "Insufficient Permissions"
    watch.watch({"rollout": ["0", "1"]})
    first, second = watch.take(), watch.take()
    assert first.faults == ("NVML says 'Insufficient Permissions' for the memory of GPU-aa",)
    assert second.faults == ()
    assert [[one.card for one in found.uses] for found in (first, second)] == [["GPU-bb"], ["GPU-bb"]]


def test_a_card_that_does_not_tell_how_busy_it_is_is_read_all_the_same(nvml, watch):
    nvml.cards[0].busy_percent = None
    watch.watch({"rollout": ["0"]})
    ((use,), faults) = (found := watch.take()).uses, found.faults
    assert (use.peak_bytes, use.busy_shares, faults) == (GIB, (), ())


def test_parts_of_a_card_are_not_read(watch):
    watch.watch({"rollout": ["MIG-1234"], "learner": ["1"]})
    found = watch.take()
    assert [one.card for one in found.uses] == ["GPU-bb"]
    assert found.faults == ("NVML doesn't tell how busy the parts of a card are (MIG)",)


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (FakeNvml(fault="Driver Not Loaded"), "NVML says 'Driver Not Loaded'"),
        (None, "the package nvidia-ml-py is missing"),
    ],
)
def test_without_a_driver_or_its_package_there_is_one_fault_and_no_reading(monkeypatch, library, said):
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with closing(NodeWatch(NEVER_S)) as watch:
        watch.watch({"rollout": ["0"], "learner": ["0"]})
        watch.enter(LEARN)
        assert watch.take() == NodeReadings(uses=(), faults=(said,))
        assert watch.take().faults == ()


def test_a_thread_reads_between_the_calls_and_ends(nvml):
    with closing(NodeWatch(0.001)) as watch:
        watch.watch({"rollout": ["0"]})
        nvml.cards[0].used_bytes = 9 * GIB
        deadline_s = time.monotonic() + 60
        while len(watch._readings["GPU-aa", GENERATE].busy_shares) < 3:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        nvml.cards[0].used_bytes = GIB
        (use,) = watch.take().uses
        assert use.peak_bytes == 9 * GIB
    assert not watch._thread.is_alive() and nvml.num_open == 0


def calls_of_nvml() -> list[tuple[str, int]]:
    """Each function of NVML that floe calls, and with how many arguments."""
    found = []
    for path in (REPOSITORY / "cluster").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr.startswith("nvml")
            ):
                found.append((node.func.attr, len(node.args)))
    return found


def bindings() -> list[Path]:
    """Copies of the package nvidia-ml-py that are installed: vLLM has one in every build, CUDA's brings the package."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None and vllm.submodule_search_locations
    package = importlib.util.find_spec("pynvml")
    own = [] if package is None or package.origin is None else [Path(package.origin)]
    return [Path(vllm.submodule_search_locations[0]) / "third_party" / "pynvml.py", *own]


@pytest.mark.parametrize("path", bindings(), ids=lambda path: path.parent.name)
def test_what_is_called_of_nvml_exists_and_takes_these_arguments(path, monkeypatch):
    spec = importlib.util.spec_from_file_location("installed_pynvml", path)
    library = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, library)
    spec.loader.exec_module(library)
    called = calls_of_nvml()
    assert {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"} <= {name for name, _ in called}
    for name, num_arguments in called:
        inspect.signature(getattr(library, name)).bind(*range(num_arguments))
    assert issubclass(library.NVMLError, Exception)
    assert {"total", "free", "used"} <= {name for name, *_ in library.c_nvmlMemory_t._fields_}
    assert "gpu" in {name for name, *_ in library.c_nvmlUtilization_t._fields_}


# --- a step of the whole run


def test_a_role_has_its_fullest_card_and_the_mean_of_all():
    step = GpuStep.of([
        card_use(card="a", roles=("rollout",), peak_bytes=20 * GIB, busy_shares=(1.0,)),
        card_use(card="b", roles=("rollout",), peak_bytes=21 * GIB, total_bytes=80 * GIB, busy_shares=(0.4, 0.1)),
        card_use(card="c", roles=("learner",), phase=LEARN, peak_bytes=2 * GIB, busy_shares=()),
    ])  # fmt: skip
    assert step.values() == {
        "rollout_memory_bytes": 21 * GIB, "rollout_total_bytes": 80 * GIB,
        "rollout_busy_share": 0.5, "rollout_busy_peak_share": 1.0,
        "learner_memory_bytes": 2 * GIB, "learner_total_bytes": 24 * GIB,
        "learner_busy_share": None, "learner_busy_peak_share": None,
        "generate_memory_bytes": 21 * GIB, "generate_busy_share": 0.5,
        "learn_memory_bytes": 2 * GIB, "learn_busy_share": None,
    }  # fmt: skip
    assert not step.is_shared and GpuStep.of([card_use()]).is_shared


def test_a_step_of_the_main_loop_tells_the_readings_its_phases():
    events = []
    gpus = SimpleNamespace(enter=lambda phase: events.append(phase))
    device = SimpleNamespace(to_learner=lambda: events.append("to"), to_rollouts=lambda: events.append("back"))
    watched = WatchedDevice(device, gpus)
    watched.to_learner()
    watched.to_rollouts()
    assert events == [HANDOVER, "to", LEARN, HANDOVER, "back", GENERATE]


def records_of(folder: Path, *steps: GpuStep | None) -> list[dict]:
    with MetricsLog(folder) as log:
        for number, gpus in enumerate(steps, start=1):
            log.write(step_record(number), gpus=gpus)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_record_has_the_readings_and_without_them_no_field_of_them(tmp_path):
    with_readings, without = records_of(tmp_path, GpuStep.of([card_use()]), None)
    assert with_readings["gpu_learner_memory_bytes"] == 18 * GIB
    assert with_readings.keys() - without.keys() == {f"gpu_{name}" for name in GpuStep.of([card_use()]).values()}
    assert not any(name.startswith("gpu") or "peak" in name for name in without)


def test_the_allocators_peak_is_in_the_record_with_and_without_readings(tmp_path):
    report = step_report(allocated_peak_bytes=5, reserved_peak_bytes=7)
    steps = [with_allocator(one, report) for one in (GpuStep.of([card_use()]), None)]
    for record in records_of(tmp_path, *steps):
        assert (record["gpu_learner_allocated_bytes"], record["gpu_learner_reserved_bytes"]) == (5, 7)
    assert with_allocator(None, step_report()) is None


class Counterparts:
    """A recorder's counterparts, as far as it asks them."""

    num_replaced = 0

    def metrics(self):
        return RewardMeter().take([])

    def save_adapter(self, folder: Path) -> None:
        pass


def test_the_recorder_hands_each_steps_readings_on(tmp_path):
    parts = Counterparts()
    interim = InterimEvaluation(harness=None, questions=[], every_steps=0, turn=nullcontext)
    progress = Progress(Console(file=io.StringIO()), num_steps=1)
    taken = Collected(groups=(scored_group(MIXED),), rollout_s=1.0, reward_s=1.0)
    with RunRecorder(
        tmp_path, num_steps=1, learner=parts, interim=interim, progress=progress, max_log_bytes=2**30,
        measured=Measured(rollouts=parts, rewards=parts, gpus=lambda: GpuStep.of([card_use()])),
    ) as recorder:  # fmt: skip
        recorder.record(taken, 0, step_report(allocated_peak_bytes=5), PUBLISHED, TIMINGS)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (record["gpu_rollout_memory_bytes"], record["gpu_learner_allocated_bytes"]) == (18 * GIB, 5)
    assert progress.watched().gpus.allocated_bytes == 5


# --- the learner's allocator


def test_the_allocators_peak_is_read_of_a_cuda_device_alone(monkeypatch):
    asked = []
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: asked.append(("reset", device)))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: asked.append(("read", device)) or 3)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda device: 4)
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    forget_peaks(cpu)
    assert AllocatorPeaks.of(cpu) is None and asked == []
    forget_peaks(cuda)
    assert AllocatorPeaks.of(cuda) == AllocatorPeaks(allocated_bytes=3, reserved_bytes=4)
    assert asked == [("reset", cuda), ("read", cuda)]


def test_the_report_has_the_fullest_ranks_peak():
    meters = [StepMeter() for _ in range(3)]
    for meter, (allocated, reserved) in zip(meters, ((3, 9), (5, 6)), strict=False):
        meter.peaks = AllocatorPeaks(allocated_bytes=allocated, reserved_bytes=reserved)
    report = StepMeter.joined(meters).report(step=1, learning_rate=0.1, num_groups=0)
    assert (report.allocated_peak_bytes, report.reserved_peak_bytes) == (5, 9)
    without = StepMeter.joined([StepMeter()]).report(step=1, learning_rate=0.1, num_groups=0)
    assert (without.allocated_peak_bytes, without.reserved_peak_bytes) == (None, None)


# --- the run's nodes

ON_GPUS = RunConfig(rollout=RolloutSection(num_gpus=0.5, gpu_memory_share=0.4), learner=LearnerSection(num_gpus=0.5))


def test_a_run_that_asks_for_no_gpu_reads_nothing(monkeypatch, tmp_path):
    def unasked(*_: object) -> None:
        raise AssertionError("a run without GPUs asked for their readings")

    for name in ("own_node_id", "living_actors", "NodeWatch"):
        monkeypatch.setattr(run_gpus_module, name, unasked)
    notes = []
    with run_gpus(RunConfig(), notes.append) as gpus:
        assert isinstance(gpus, NoGpus)
        device = WatchedDevice(FakeCluster(), gpus)
        device.to_learner()
        device.to_rollouts()
        assert gpus.take() is None and not notes


class Answer:
    """What a remote call gives: a value, or a fault."""

    def __init__(self, value: object) -> None:
        self.value = value


class FakeRay:
    """Ray on two nodes: each actor has the card that is given for it, and the watch on the other node does not live."""

    def __init__(self, devices: dict[str, str | None]) -> None:
        self.devices, self.asked = devices, []

    def get_actor(self, name):
        self.asked.append(name)
        return SimpleNamespace(
            __ray_call__=SimpleNamespace(remote=lambda call: Answer(self.devices[name])),
        )

    def wait(self, references, num_returns, timeout):
        return references, []

    def get(self, reference, timeout=None):
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, handle):
        pass


def actor(name: str, node: str = "here") -> RunActor:
    return RunActor(name=name, role=name.partition("-")[0], node_id=node, pid=1)


@pytest.fixture
def two_nodes(monkeypatch, nvml):
    ray = FakeRay({"rollout-0": "0", "rollout-1": "0", "learner": "1", "rollout-1-successor-1": "1"})
    living = [actor("rollout-0"), actor("learner"), actor("reward-0")]
    remote = SimpleNamespace(
        watch=SimpleNamespace(remote=lambda places: None),
        enter=SimpleNamespace(remote=lambda phase: None),
        take=SimpleNamespace(remote=lambda: Answer(RayActorError())),
    )
    for name, value in (
        ("ray", ray), ("living_actors", lambda: list(living)), ("own_node_id", lambda: "here"),
        ("NodeWatch", lambda: NodeWatch(NEVER_S)), ("_watch_on", lambda node_id: remote),
    ):  # fmt: skip
        monkeypatch.setattr(run_gpus_module, name, value)
    return SimpleNamespace(ray=ray, living=living)


def test_the_cards_of_the_runs_actors_are_read_and_a_successor_is_asked_too(two_nodes, nvml):
    notes = []
    with run_gpus(ON_GPUS, notes.append) as gpus:
        assert sorted(two_nodes.ray.asked) == ["learner", "rollout-0"]
        nvml.cards[1].used_bytes = 7 * GIB
        step = gpus.take()
        assert {role: use.memory_bytes // GIB for role, use in step.by_role.items()} == {"rollout": 1, "learner": 7}
        two_nodes.living[0] = actor("rollout-1-successor-1")
        step = gpus.take()
        assert step.by_role["rollout"].memory_bytes == 7 * GIB and step.is_shared
        assert sorted(two_nodes.ray.asked) == ["learner", "rollout-0", "rollout-1-successor-1"]
    assert not notes and nvml.num_open == 0


def test_a_node_whose_watch_is_gone_is_told_once_and_the_step_goes_on(two_nodes):
    two_nodes.living.append(actor("rollout-1", node="elsewhere"))
    notes = []
    with run_gpus(ON_GPUS, notes.append) as gpus:
        steps = [gpus.take() for _ in range(3)]
    assert all(step.by_role.keys() == {"rollout", "learner"} for step in steps)
    assert notes == [
        "warning: GPU readings on node elsewher are missing from the metrics: "
        "the watch does not answer (RayActorError); the run goes on without them"
    ]


def test_a_machine_without_nvml_is_told_once(two_nodes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    notes = []
    with run_gpus(ON_GPUS, notes.append) as gpus:
        assert [gpus.take() for _ in range(3)] == [None] * 3
    assert notes == [
        "warning: GPU readings are missing from the metrics: the package nvidia-ml-py is missing; "
        "the run goes on without them"
    ]


# --- where they are shown


def shown(gpus: GpuStep | None) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    progress = Progress(console, num_steps=20)
    progress.step(step_record(1), 20, gpus)
    console.file.truncate(0)
    console.file.seek(0)
    console.print(view(progress.watched()))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_view_shows_a_card_for_both_by_phase():
    uses = [
        card_use(),
        card_use(phase=HANDOVER, peak_bytes=6 * GIB, busy_shares=(0.0,)),
        card_use(phase=LEARN, peak_bytes=20 * GIB),
    ]
    assert shown(GpuStep.of(uses))[-2:] == [
        "GPU 20.0 of 24.0 GiB, busy 60.0 %",
        "GPU, generate 18.0 GiB   GPU, handover 6.0 GiB   GPU, learn 20.0 GiB",
    ]


def test_the_view_shows_each_roles_card_and_without_readings_none():
    uses = [card_use(roles=("rollout",)), card_use(card="b", roles=("learner",), peak_bytes=3 * GIB, busy_shares=())]
    assert shown(GpuStep.of(uses))[-2:] == [
        "GPU of rollout 18.0 of 24.0 GiB, busy 75.0 %   GPU of learner 3.0 of 24.0 GiB",
        "GPU, generate 18.0 GiB",
    ]
    without = shown(None)
    assert not any("GPU" in line for line in without)
    assert shown(GpuStep(allocated_bytes=1, reserved_bytes=2)) == without


def curves_of(folder: Path, *steps: GpuStep | None) -> dict[str, dict[str, list]]:
    records_of(folder, *steps)
    figures = step_figures(parse_metrics((folder / "metrics.jsonl").read_text()), None)
    return {
        one.name: {trace["name"]: trace["y"] for trace in one.plot["data"]} if one.plot else one.missing
        for one in figures
        if "gpu" in one.name
    }


def test_the_page_shows_a_card_for_both_by_phase(tmp_path):
    first = replace(GpuStep.of([card_use()]), allocated_bytes=4 * GIB, reserved_bytes=5 * GIB)
    second = GpuStep.of([card_use(peak_bytes=12 * GIB), card_use(phase=LEARN, busy_shares=(0.0, 0.0))])
    assert curves_of(tmp_path, first, second) == {
        "gpu_memory": {
            "generate": [18, 12], "handover": [None, None], "learn": [None, 18],
            "PyTorch's in the update": [4, None], "size of the card": [24, 24],
        },
        "gpu_busy": {"rollout": [75, 37.5], "learner": [75, 37.5]},
    }  # fmt: skip


def test_the_page_shows_each_roles_card(tmp_path):
    uses = [card_use(roles=("rollout",), busy_shares=()), card_use(roles=("learner",), busy_shares=(), peak_bytes=GIB)]
    assert curves_of(tmp_path, GpuStep.of(uses)) == {
        "gpu_memory": {"rollout": [18], "learner": [1], "size of the card": [24]},
        "gpu_busy": "The cards don't tell how busy they are.",
    }


def test_a_page_without_readings_has_no_figure_of_them(tmp_path):
    assert curves_of(tmp_path, None) == {}


# --- through a real Ray

LIBRARY = """
from types import SimpleNamespace

class NVMLError(Exception):
    pass

def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUUID(handle): return f"GPU-{handle}"
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(total=100, used=10 + handle)
def nvmlDeviceGetUtilizationRates(handle): return SimpleNamespace(gpu=50 + handle)
"""
NODES = """
import json
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from floe.cluster.tracking.gpu_step import GpuPhase
from floe.cluster.ray_actors.run_gpus import RunGpus

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 2, "include_dashboard": False})
other = cluster.add_node(num_cpus=1, num_gpus=2, include_dashboard=False)
cluster.wait_for_nodes()
ray.init(address=cluster.address, namespace="run", log_to_driver=False)
here = ray.get_runtime_context().get_node_id()

class Actor:
    def ping(self):
        return True

def start(name, node_id):
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    made = ray.remote(Actor).options(name=name, num_cpus=0, num_gpus=1, scheduling_strategy=place).remote()
    ray.get(made.ping.remote())
    return made

actors = [start(name, node) for name, node in (
    ("rollout-0", here), ("learner-0", here), ("rollout-1", other.node_id), ("learner-1", other.node_id))]
notes = []
gpus = RunGpus(("rollout", "learner"), notes.append)
gpus.enter(GpuPhase.LEARN)
first = gpus.take()
uses = [one for _, readings in gpus._readings() for one in readings.uses]
cards = sorted((one.roles[0], one.card) for one in uses)
cluster.remove_node(other)
second = gpus.take()
third = gpus.take()
print(json.dumps([first.values(), cards, second.values(), third.values(), notes]))
gpus.close()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.engine
@pytest.mark.long
def test_the_cards_of_two_nodes_are_read_there_and_a_lost_node_ends_no_step(tmp_path):
    (tmp_path / "pynvml.py").write_text(LIBRARY)
    paths = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NODES], capture_output=True, text=True, timeout=1800, cwd=REPOSITORY, env=paths
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, cards, second, third, notes = json.loads(done.stdout.splitlines()[-1])
    assert cards == [["learner", "GPU-1"], ["learner", "GPU-1"], ["rollout", "GPU-0"], ["rollout", "GPU-0"]]
    assert (first["rollout_memory_bytes"], first["learner_memory_bytes"]) == (10, 11)
    assert (first["rollout_busy_share"], first["learn_memory_bytes"]) == (0.5, 11)
    assert second["rollout_memory_bytes"] == third["rollout_memory_bytes"] == 10
    (said,) = notes
    assert "on node" in said and "the watch does not answer" in said
