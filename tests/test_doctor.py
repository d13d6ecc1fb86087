"""`floe doctor` and the preflight of `floe train`: what is printed, the exit codes, and the checks on a real Ray."""

import json
import socket
import sys
import time
from collections.abc import Iterator

import pytest
import ray

from floe.actors.engine.slot_receiver import SlotReceiver
from floe.cluster import cli
from floe.cluster.messages import AdapterManifest
from floe.cluster.operations import doctor as operation
from floe.cluster.preflight import examination, machine, model_files, ray_checks, versions
from floe.cluster.preflight.finding import Finding, Level, outcome
from floe.cluster.preflight.round_trip import adapter_round_trip
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import ClusterSection, ModelSection, RewardSection, RolloutSection, RunConfig
from tests.command_line import REPOSITORY, config, floe

FINDINGS = (
    Finding(name="memory", level=Level.OK, what="enough"),
    Finding(name="threads", level=Level.WARNING, what="too many", remedy="set fewer"),
    Finding(name="disk", level=Level.FAULT, what="full\nto the brim", remedy="make room"),
)


def run_doctor(capsys, monkeypatch, findings: tuple[Finding, ...], *arguments: str) -> tuple[int, str, str]:
    """Run the command with these findings in place of the checks."""

    def examine(_: RunConfig) -> Iterator[Finding]:
        print("a library's chatter")
        yield from findings

    monkeypatch.setattr(operation, "examine", examine)
    monkeypatch.setattr(sys, "argv", ["floe", "doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_one_line_each(capsys, monkeypatch):
    code, out, err = run_doctor(capsys, monkeypatch, FINDINGS)
    assert code == 2
    assert out.splitlines() == [
        "ok      memory: enough",
        "warning threads: too many: set fewer",
        "fault   disk: full to the brim: make room",
        "1 ok, 1 warnings, 1 faults",
    ]
    assert "chatter" in err


@pytest.mark.parametrize(("findings", "code"), [(FINDINGS[:1], 0), (FINDINGS[:2], 0), (FINDINGS, 2)])
def test_only_a_fault_ends_with_2(capsys, monkeypatch, findings, code):
    assert run_doctor(capsys, monkeypatch, findings)[0] == code


def test_json(capsys, monkeypatch):
    code, out, _ = run_doctor(capsys, monkeypatch, FINDINGS, "--json")
    assert (code, json.loads(out)) == (
        2,
        {
            "findings": [
                {"name": "memory", "level": "ok", "what": "enough", "remedy": ""},
                {"name": "threads", "level": "warning", "what": "too many", "remedy": "set fewer"},
                {"name": "disk", "level": "fault", "what": "full\nto the brim", "remedy": "make room"},
            ],
            "num_ok": 1,
            "num_warnings": 1,
            "num_faults": 1,
        },
    )


def test_a_configuration_that_can_not_be_read_is_a_sentence(capsys, monkeypatch):
    code, out, err = run_doctor(capsys, monkeypatch, FINDINGS, "--config", "none.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("floe: ") and "none.yaml" in err


# The preflight of a run


def test_train_stops_at_a_fault_with_its_sentence(monkeypatch, tmp_path):
    installed = versions.installed_versions() | {"torch": "2.13.0+cpu", "torchvision": "0.29.1"}
    monkeypatch.setattr(versions, "installed_versions", lambda: installed)
    monkeypatch.setattr(versions, "_requirements_of", lambda names: {})
    notes: list[str] = []
    with pytest.raises(UserError, match=r"torchvision 0\.29\.1 is not built for .*pip uninstall -y torchvision"):
        examination.Preflight(RunConfig(), tmp_path, notes.append).machine()


def test_train_prints_nothing_of_what_is_fine(tmp_path):
    notes: list[str] = []
    settings = load_config(None, ["cluster.address=local", "cluster.min_free_memory_gib=0"])
    examination.Preflight(settings, tmp_path, notes.append).machine()
    assert [note for note in notes if not note.startswith("warning: ")] == []


def test_every_check_of_the_machine_has_its_own_name():
    names = [name for name, _ in examination.machine_checks(RunConfig())]
    assert len(set(names)) == len(names) >= 11


# Checks on a real Ray


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    ray.init(
        address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False,
        object_store_memory=100 * 2**20, _system_config={"worker_niceness": 0},
    )  # fmt: skip
    yield
    ray.shutdown()


SMALL = RunConfig(
    model=ModelSection(dtype="bfloat16"),
    rollout=RolloutSection(dtype="bfloat16"),
    reward=RewardSection(num_workers=1, num_cpus=0.0),
)


class DamagedOnTheWay(SlotReceiver):
    def install(self, manifest: AdapterManifest, blob):
        damaged = blob.copy()
        damaged[-1] ^= 1
        return super().install(manifest, damaged)


class FillsWrongSlots(SlotReceiver):
    def _fill(self, manifest, tensors):
        pairs = super()._fill(manifest, tensors)
        next(iter(pairs.values()))[1].zero_()
        return pairs


class NeverAnswers(SlotReceiver):
    def install(self, manifest, blob):
        time.sleep(600)


@pytest.mark.engine
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_adapter_arrives(small_ray, dtype):
    settings = load_config(None, [f"model.dtype={dtype}", f"rollout.dtype={dtype}"])
    found = adapter_round_trip(settings)
    assert (found.level, found.what[:18]) == (Level.OK, "14 modules arrived")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("receiver", "part", "timeout_s"),
    [
        (DamagedOnTheWay, "the blob that arrived is not the exported one", 120.0),
        pytest.param(FillsWrongSlots, "the slots do not hold what the learner exported", 120.0, marks=pytest.mark.long),
        (NeverAnswers, "did not reach another process in 3 s", 3.0),
    ],
)
def test_an_adapter_that_does_not_arrive(small_ray, receiver, part, timeout_s):
    found = adapter_round_trip(SMALL, receiver, timeout_s)
    assert found.level is Level.FAULT
    assert part in found.what and found.remedy


@pytest.mark.engine
def test_resources_that_the_cluster_never_has_are_a_fault_at_once(small_ray, tmp_path):
    too_many = SMALL.model_copy(update={"rollout": RolloutSection(num_actors=4)})
    found = outcome("Ray resources", lambda: ray_checks.resources(too_many), tmp_path)
    assert found.level is Level.FAULT
    assert found.sentence.startswith("The run needs 2.5 Ray CPUs, the cluster has 1: lower")
    assert ray_checks.resources(SMALL).level is Level.OK


@pytest.mark.engine
def test_resources_that_others_hold_are_a_warning(small_ray):
    assert ray_checks.free_resources(SMALL).level is Level.OK
    holder = ray.remote(SlotReceiver).options(num_cpus=0.75).remote({}, "float32")
    ray.get(holder.ping.remote())
    deadline_s = time.monotonic() + 300  # the raylet reports what is free only now and then
    while ray_checks.free_resources(SMALL).level is Level.OK and time.monotonic() < deadline_s:
        time.sleep(0.2)
    found = ray_checks.free_resources(SMALL)
    ray.kill(holder)
    assert found.level is Level.WARNING
    assert "only 0.25 of the 1 CPUs" in found.what


@pytest.mark.engine
def test_an_object_store_too_small_for_the_adapters(small_ray):
    assert ray_checks.object_store(SMALL, 1000).level is Level.OK
    found = ray_checks.object_store(SMALL, 30_000_000)
    assert found.level is Level.FAULT
    assert "--object-store-memory" in found.remedy


# The whole command


@pytest.mark.engine
@pytest.mark.long
def test_the_smoke_configuration_is_sound(home):
    done = floe("doctor", "--config", config("smoke.yaml"), "cluster.address=local", "--json", home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    assert {"memory", "tokenizer", "golds", "Ray resources", "adapter round trip"} <= {one["name"] for one in found}


@pytest.mark.engine
def test_faults_are_lines_and_what_depends_on_them_is_named(home):
    with socket.socket() as taken, socket.socket() as unanswered:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        unanswered.bind(("127.0.0.1", 0))  # and nobody listens
        port, address = taken.getsockname()[1], f"127.0.0.1:{unanswered.getsockname()[1]}"
        settings = [f"run.home={home}", "model.path=/no/such/model", "cluster.min_free_memory_gib=60000"]
        files = ["data.source=files", "data.questions=/no/such/questions", "data.databases=/no/such/folder"]
        given = load_config(REPOSITORY / "configs" / "smoke.yaml", [*settings, *files, f"cluster.address={address}"])
        found = {one.name: one for one in examination.examine(given)}
        own = ClusterSection(address="local", dashboard_port=port)
        checks = dict(examination.machine_checks(given.model_copy(update={"cluster": own})))
        busy = outcome("dashboard port", checks["dashboard port"], home)
    parts = {
        "memory": "GiB of free memory",
        "questions": "/no/such/folder",
        "model": "/no/such/model",
        "Ray": f"No Ray cluster answers at {address}",
    }
    for name, part in parts.items():
        assert found[name].level is Level.FAULT and part in found[name].what, found[name]
    assert (busy.level, str(port) in busy.what) == (Level.FAULT, True)
    skipped = [one.name for one in found.values() if one.what.startswith("not checked")]
    assert skipped == ["databases, golds and prompts", "Ray resources, object store and adapter round trip"]


@pytest.mark.engine
def test_the_estimate_of_a_checkpoint_is_near_what_a_run_writes(smoke_run):
    settings = load_config(smoke_run.run_dir / "config.yaml")
    num_weights = model_files.num_adapter_weights(smoke_run.home / "models" / "tiny-qwen2", settings.lora)
    folders = list((smoke_run.run_dir / "checkpoints").iterdir())
    written = [sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) for folder in folders]
    adapters = sum(one.stat().st_size for one in (smoke_run.run_dir / "adapters").rglob("*.safetensors"))
    of_all = sum(written) + max(written) + adapters  # the estimate counts the checkpoint that is being written
    assert of_all <= machine.checkpoint_bytes(settings, num_weights) <= 2 * of_all
