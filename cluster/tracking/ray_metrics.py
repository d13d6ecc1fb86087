"""A step's record as gauges of Ray, which every node's Prometheus endpoint shows under `ray_` and these names."""

from __future__ import annotations

import string
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import ray
from ray.util.metrics import Gauge

from floe.cluster.messages import Outcome
from floe.cluster.tracking.gpu_step import GPU_ROLES, GpuPhase
from floe.cluster.tracking.record_sink import RunEnd, Values
from floe.cluster.tracking.source_metrics import values_by_source

RAY_PREFIX = "ray_"
RUN_TAGS = ("run", "run_folder")
MS_PER_S = 1000.0
REFRESH_S = 5.0  # Ray drops a gauge 20 s after it was last set, and a step may take longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A gauge. `sources` are fields of the record by value of the tag `tag`; without a tag there is one, under "".

    Of each source of a mixture, the gauge shows the number `number_of_source`; the tag's value is the source's name.
    """

    name: str
    description: str
    unit: str
    sources: Mapping[str, str]
    tag: str | None = None
    scale: float = field(default=1.0)  # of the record's value
    number_of_source: str = ""

    def shown(self, values: Values) -> list[tuple[str, float]]:
        """Return the tag's values with the numbers that a record has for them."""
        by_tag = {tag: values.get(source) for tag, source in self.sources.items()}
        if self.number_of_source:
            by_tag |= {_ascii(name): one for name, one in values_by_source(values, self.number_of_source).items()}
        return [(tag, self.scale * value) for tag, value in by_tag.items() if value is not None]


def _ascii(text: str) -> str:
    """Return the text as Ray takes it for a tag."""
    return quote(text, safe=string.printable, errors="surrogateescape")


def _plain(name: str, description: str, unit: str, source: str) -> Metric:
    return Metric(name=name, description=description, unit=unit, sources={"": source})


def _of_cards(name: str, description: str, unit: str, field_name: str) -> Metric:
    sources = {role: f"gpu_{role}_{field_name}" for role in GPU_ROLES}
    return Metric(name=name, description=description, unit=unit, tag="role", sources=sources)


def _of_sources(name: str, description: str, unit: str, number: str) -> Metric:
    return Metric(name=name, description=description, unit=unit, tag="source", sources={}, number_of_source=number)


def _kinds(name: str, description: str, unit: str, sources: Mapping[str, str]) -> Metric:
    return Metric(name=name, description=description, unit=unit, tag="kind", sources=sources)


DRAW_KINDS = {"seen": "", "expected": "_expected", "uniform": "_uniform"}

# Fields of StepMetrics; `reward_...` of RewardMetrics, `memory_...` of RoleMemory, `gpu_...` of GpuStep, `draw_...` of
# DrawFigures, `eval_...` of InterimResult, where they are not StepMetrics' own (`reward_mean`, `reward_s`).
METRICS = (
    _plain("floe_step", "Last step that ended", "step", "step"),
    _plain("floe_reward_mean", "Mean reward of the candidates", "reward", "reward_mean"),
    _plain("floe_correct_share", "Candidates whose result is the gold's", "share", "correct_share"),
    _plain("floe_executes_share", "Candidates whose SQL runs", "share", "executes_share"),
    _plain(
        "floe_zero_variance_share",
        "Groups of equal rewards, under GDPO of equal terms",
        "share",
        "zero_variance_share",
    ),
    _plain("floe_dropped_group_share", "Groups without a usable verdict", "share", "dropped_group_share"),
    Metric(
        name="floe_hollow_reward_share",
        description="Reward that constant answers and empty results earn",
        unit="share",
        tag="answers",
        sources={"constant": "constant_reward_share", "empty": "empty_reward_share"},
    ),
    _plain("floe_health_findings", "What the health guard found after the step", "findings", "health_findings"),
    _plain("floe_eval_accuracy", "Held-back questions answered right, greedily", "share", "eval_greedy"),
    Metric(
        name="floe_outcomes",
        description="Candidates of the step by outcome",
        unit="candidates",
        tag="outcome",
        sources={outcome.value: f"outcome_{outcome.value}" for outcome in Outcome},
    ),
    _plain("floe_tokens_per_s", "Generated tokens over the seconds of generation", "tokens/s", "tokens_per_s"),
    _plain("floe_completion_tokens", "Mean length of a completion", "tokens", "mean_completion_tokens"),
    _plain("floe_truncated_share", "Completions cut off at the limit", "share", "truncated_share"),
    _plain("floe_entropy_nats", "Entropy of a sampled token", "nats", "entropy_estimate"),
    _plain("floe_loss", "Loss of the update", "loss", "loss"),
    _plain("floe_grad_norm", "Norm of the gradient before clipping", "norm", "grad_norm"),
    _plain(
        "floe_supervised_loss_nats", "Loss of the supervised term, per token of its answers", "nats", "supervised_loss"
    ),
    _plain("floe_kl_nats", "KL to the reference, k3", "nats", "kl"),
    _plain(
        "floe_logprob_mismatch",
        "Mean difference of a token's log-probability between engine and learner",
        "nats",
        "logprob_mismatch_mean",
    ),
    _plain("floe_staleness_steps", "Most steps that a group's adapter lagged behind", "steps", "staleness"),
    Metric(
        name="floe_sync_ms",
        description="Broadcast of the adapter, the whole of it and its phases",
        unit="ms",
        tag="phase",
        scale=MS_PER_S,
        sources={
            "all": "sync_s",
            "export": "sync_export_s",
            "install": "sync_install_s",
            "canary": "sync_canary_s",
        },
    ),
    _plain("floe_sync_bytes", "Size of the adapter's blob", "bytes", "sync_bytes"),
    Metric(
        name="floe_phase_s",
        description="Phases of the step, which overlap",
        unit="s",
        tag="phase",
        sources={
            phase: f"{phase}_s"
            for phase in ("rollout", "reward", "learn", "sync", "step", "learner_wait", "rollouts_wait")
        },
    ),
    _plain("floe_reward_queue_groups", "Most groups that waited for a reward worker", "groups", "reward_max_waiting"),
    _plain("floe_ready_steps", "Generated steps that wait for the learner", "steps", "ready_steps"),
    Metric(
        name="floe_reward_queue_wait_ms",
        description="A group's wait for a reward worker",
        unit="ms",
        tag="quantile",
        scale=MS_PER_S,
        sources={"0.5": "reward_queue_wait_p50_s", "0.99": "reward_queue_wait_p99_s"},
    ),
    _plain(
        "floe_scores_per_s", "Candidates scored while any worker was scoring", "candidates/s", "reward_scores_per_s"
    ),
    Metric(
        name="floe_replaced_processes",
        description="Actors lost since the step before, and executor children",
        unit="processes",
        tag="role",
        sources={
            "rollout": "replaced_actors",
            "reward": "reward_replaced_workers",
            "executor": "reward_lost_children",
        },
    ),
    Metric(
        name="floe_memory_bytes",
        description="Resident memory of the role's processes on the driver's node, children included",
        unit="bytes",
        tag="role",
        sources={role: f"memory_{role}_bytes" for role in ("driver", "rollout", "reward", "learner")},
    ),
    _of_cards("floe_gpu_memory_bytes", "Most memory in use on the role's fullest card", "bytes", "memory_bytes"),
    _of_cards("floe_gpu_total_bytes", "Memory of that card", "bytes", "total_bytes"),
    _of_cards("floe_gpu_busy_share", "Time that the role's cards were busy, their mean", "share", "busy_share"),
    _of_cards("floe_gpu_busy_peak_share", "The largest of these readings", "share", "busy_peak_share"),
    Metric(
        name="floe_gpu_phase_memory_bytes",
        description="Most memory in use on the fullest card of the run in each phase",
        unit="bytes",
        tag="phase",
        sources={phase.value: f"gpu_{phase}_memory_bytes" for phase in GpuPhase},
    ),
    Metric(
        name="floe_gpu_phase_busy_share",
        description="Time that the run's cards were busy in each phase, their mean",
        unit="share",
        tag="phase",
        sources={phase.value: f"gpu_{phase}_busy_share" for phase in GpuPhase},
    ),
    Metric(
        name="floe_gpu_allocator_bytes",
        description="Most memory of PyTorch's allocator in the update, on the fullest rank",
        unit="bytes",
        tag="kind",
        sources={kind: f"gpu_learner_{kind}_bytes" for kind in ("allocated", "reserved")},
    ),
    _kinds(
        "floe_draw_mixed_share",
        "Groups with a right and a wrong candidate, in a draw by pass rates",
        "share",
        {kind: f"draw_mixed_share{end}" for kind, end in DRAW_KINDS.items()},
    ),
    _kinds(
        "floe_draw_variance",
        "Expected variance p (1 - p) of the drawn questions",
        "variance",
        {kind: f"draw_variance_{kind}" for kind in ("expected", "uniform")},
    ),
    _plain(
        "floe_draw_gradient_share",
        "Groups that carry a gradient, in a draw by pass rates",
        "share",
        "draw_gradient_share",
    ),
    _kinds(
        "floe_draw_pass_rate",
        "Pass rate of the drawn questions, and the mean error of a question",
        "share",
        {kind: f"draw_pass_rate_{kind}" for kind in ("predicted", "seen", "error")},
    ),
    _plain("floe_draw_never_drawn", "Training questions that no step has asked", "questions", "draw_num_never_drawn"),
    _kinds(
        "floe_draw_group_size",
        "Candidates of the step's smallest and largest group",
        "candidates",
        {kind: f"draw_{kind}_group" for kind in ("smallest", "largest")},
    ),
    _of_sources("floe_source_questions", "Questions of the step from the source", "questions", "num_questions"),
    _of_sources("floe_source_reward_mean", "Mean reward of the source's candidates", "reward", "reward_mean"),
    _of_sources("floe_source_correct_share", "The source's candidates that are right", "share", "correct_share"),
    _of_sources(
        "floe_source_zero_variance_share", "The source's groups with equal rewards", "share", "zero_variance_share"
    ),
    _of_sources("floe_source_eval_accuracy", "The source's held-back questions answered right", "share", "eval_greedy"),
)


class RayMetrics:
    """Shows records as gauges; for a driver that is connected to Ray, until `close`. A value of None is not shown."""

    def __init__(self, run_name: str, run_folder: str) -> None:
        self._run_tags = {tag: _ascii(value) for tag, value in zip(RUN_TAGS, (run_name, run_folder), strict=True)}
        self._gauges = {
            metric.name: Gauge(
                metric.name,
                f"{metric.description} ({metric.unit})",
                tag_keys=(*RUN_TAGS, *([metric.tag] if metric.tag else [])),
            )
            for metric in METRICS
        }
        self._values: dict[str, float | None] = {}
        self._changed = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="ray-metrics", daemon=True)
        self._thread.start()

    def write(self, step: int, values: Values) -> None:
        with self._changed:
            self._values = {**values, "step": float(step)}
        self._set_all()

    def close(self, end: RunEnd) -> None:
        self._stop.set()
        self._thread.join()

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self._set_all()

    def _set_all(self) -> None:
        with self._changed:
            values = self._values
        for metric in METRICS:
            for tag_value, value in metric.shown(values):
                tags = self._run_tags | ({metric.tag: tag_value} if metric.tag else {})
                self._gauges[metric.name].set(value, tags)


def prometheus_endpoint() -> str:
    """Return the endpoint of the driver's node, which shows the driver's gauges."""
    own = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == own)
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
