"""The documented names: in the record, in the dashboard, in the docs, and at the Prometheus endpoint of a real Ray."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from ray.util.metrics import Gauge

from floe.cluster.loop.draw_figures import DrawFigures
from floe.cluster.tracking.gpu_step import GpuPhase, GpuStep
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.tracking.ray_metrics import METRICS, RAY_PREFIX, RayMetrics
from floe.cluster.tracking.record_sink import RunEnd
from floe.cluster.tracking.reward_metrics import RewardMeter
from floe.cluster.tracking.source_metrics import SourceAccuracy, SourceMetrics
from floe.cluster.tracking.step_metrics import InterimResult, RoleMemory
from tests.command_line import REPOSITORY
from tests.fake_nvml import card_use
from tests.scored_groups import scored_group
from tests.step_records import MIXED, metrics_of

NAMES = {RAY_PREFIX + metric.name for metric in METRICS}
MEMORY = RoleMemory(driver_bytes=1000, rollout_bytes=2000, reward_bytes=None, learner_bytes=4000)
EVALUATED = InterimResult(
    adapter_version=3, greedy=0.5, executes=1.0, num_questions=2, seconds=1.0, is_best=True,
    by_source=(SourceAccuracy(name="geo", greedy=0.5, num_questions=2),),
)  # fmt: skip
GPUS = dataclasses.replace(
    GpuStep.of([card_use(phase=phase) for phase in GpuPhase]), allocated_bytes=1000, reserved_bytes=2000
)
GEO = SourceMetrics(name="geo", num_questions=1, reward_mean=0.5, correct_share=0.25, zero_variance_share=0.0)
DRAWN = DrawFigures(
    variance_expected=0.2, variance_uniform=0.1, mixed_share=0.75, mixed_share_expected=0.7, mixed_share_uniform=0.4,
    gradient_share=0.75, pass_rate_predicted=0.3, pass_rate_seen=0.4, pass_rate_error=0.15, num_never_drawn=12,
    smallest_group=4, largest_group=40,
)  # fmt: skip
RECORD = dataclasses.replace(
    metrics_of(scored_group(MIXED)), kl=0.01, supervised_loss=0.7, by_source=(GEO,), draw=DRAWN
)
ENDPOINT = """
import json, sys, time, urllib.request
import ray
from floe.cluster.tracking.ray_metrics import RayMetrics, prometheus_endpoint
from floe.cluster.tracking.record_sink import RunEnd
from floe.cluster.ray_actors.role_memory import role_memory
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=10**8, log_to_driver=False,
         _system_config={"metrics_report_interval_ms": 1000})

class Actor:
    def ping(self):
        return True

actor = ray.remote(Actor).options(name="rollout-0", num_cpus=0).remote()
ray.get(actor.ping.remote())
memory = role_memory()
values, names = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))
sink = RayMetrics("small", "small-1")
sink.write(3, values)
deadline = time.monotonic() + 600
text = ""
while time.monotonic() < deadline and not all(name + "{" in text for name in names):
    time.sleep(1)
    text = urllib.request.urlopen(prometheus_endpoint(), timeout=10).read().decode()
sink.close(RunEnd.FINISHED)
sink.close(RunEnd.FINISHED)
print(json.dumps([memory.driver_bytes, memory.rollout_bytes, memory.learner_bytes]))
print(text)
"""


class Kept:
    def __init__(self):
        self.records = []

    def write(self, step, values):
        self.records.append((step, dict(values)))

    def close(self, end):
        self.end = end


@pytest.fixture
def values(tmp_path):
    """Return the values of a whole record, as the sinks get it."""
    sink = Kept()
    with MetricsLog(tmp_path, [sink]) as log:
        log.write(RECORD, RewardMeter().take([]), EVALUATED, MEMORY, GPUS)
    ((step, found),) = sink.records
    assert step == 3 and sink.end is RunEnd.FINISHED
    return found


def test_every_source_is_a_field_of_the_record(values):
    sources = {source for metric in METRICS for source in metric.sources.values()}
    assert sources - {"step"} <= values.keys()
    of_sources = {metric.number_of_source for metric in METRICS if metric.number_of_source}
    assert {f"source/geo/{number}" for number in of_sources} <= values.keys()


def test_names_are_unlike_and_say_what_they_count():
    assert len(NAMES) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("floe_") and metric.description and metric.unit
        assert (metric.tag is None) == (set(metric.sources) == {""})


def test_sinks_are_told_of_a_run_that_fails(tmp_path):
    sink = Kept()
    with pytest.raises(ZeroDivisionError), MetricsLog(tmp_path, [sink]):
        raise ZeroDivisionError
    assert sink.end is RunEnd.FAILED


def test_a_run_and_a_folder_of_any_letters_are_shown(monkeypatch):
    tags = []
    real = Gauge.set
    monkeypatch.setattr(Gauge, "set", lambda self, value, given: tags.append(given) or real(self, value, given))
    sink = RayMetrics("mieux 50 %", "läufe-\udcff")
    sink.write(1, {"loss": 0.5})
    sink.close(RunEnd.FINISHED)
    assert tags[0] == {"run": "mieux 50 %", "run_folder": "l%C3%A4ufe-%FF"}


def dashboard() -> dict:
    return json.loads((REPOSITORY / "cluster" / "dashboards" / "floe.json").read_text())


def test_the_dashboard_uses_these_names_and_no_others():
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    assert set(re.findall(r"\bray_\w+", " ".join(expressions))) == NAMES
    for expression in expressions:
        assert re.fullmatch(r'ray_floe_\w+\{run_folder=~"\$run_folder"\}', expression)


def test_the_dashboard_has_the_shape_that_grafana_reads():
    shown = dashboard()
    assert shown["title"] and shown["uid"] and shown["schemaVersion"] >= 36
    variables = {variable["name"]: variable for variable in shown["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["run_folder"]["query"]["query"] == "label_values(ray_floe_step, run_folder)"
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    taken = set()
    for panel in shown["panels"]:
        assert panel["type"] == "timeseries" and panel["title"] and panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken
        taken |= cells


def test_a_tags_values_are_told_apart_in_the_legend():
    tags = {RAY_PREFIX + metric.name: metric.tag for metric in METRICS}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            tag = tags[target["expr"].partition("{")[0]]
            assert tag is None or f"{{{{{tag}}}}}" in target["legendFormat"]


def test_the_documentation_lists_each_name_with_its_unit():
    text = (REPOSITORY / "docs" / "monitoring.md").read_text()
    for metric in METRICS:
        assert re.search(rf"\| `{RAY_PREFIX}{metric.name}` \|.*\| {re.escape(metric.unit)} \|", text), metric.name
    assert set(re.findall(r"`(ray_floe_\w+)`", text)) == NAMES


@pytest.mark.engine
@pytest.mark.long
def test_the_nodes_endpoint_shows_every_name(values):
    done = subprocess.run(
        [sys.executable, "-c", ENDPOINT, json.dumps(values), json.dumps(sorted(NAMES))],
        capture_output=True, text=True, timeout=1800, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    memory, _, text = done.stdout.partition("\n")
    driver_bytes, rollout_bytes, learner_bytes = json.loads(memory)
    assert driver_bytes > 2**20 and rollout_bytes > 2**20 and learner_bytes is None
    shown = {match[0] for match in re.findall(r"^(ray_floe_\w+)(\{)", text, flags=re.MULTILINE)}
    assert shown == NAMES
    (reward,) = re.findall(r"^ray_floe_reward_mean\{(.*)\} (\S+)$", text, flags=re.MULTILINE)
    assert 'run="small"' in reward[0] and 'run_folder="small-1"' in reward[0]
    assert float(reward[1]) == pytest.approx(RECORD.reward_mean)
    by_phase = dict(re.findall(r'^ray_floe_sync_ms\{.*phase="(\w+)".*\} (\S+)$', text, flags=re.MULTILINE))
    assert float(by_phase["export"]) == pytest.approx(10) and by_phase.keys() == {"all", "export", "install", "canary"}
    roles = set(re.findall(r'^ray_floe_memory_bytes\{.*role="(\w+)"', text, flags=re.MULTILINE))
    assert roles == {"driver", "rollout", "learner"}  # the reward workers' is not known
