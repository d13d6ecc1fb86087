"""A step's record for tests of what shows it."""

from dataclasses import replace

from floe.cluster.loop.adapter_broadcast import Published
from floe.cluster.loop.step_clock import StepTimings
from floe.cluster.messages import Outcome
from floe.cluster.tracking.step_metrics import StepMetrics, step_metrics
from tests.fake_cluster import FakeCluster
from tests.scored_groups import scored_group, step_report

TIMINGS = StepTimings(
    rollout_s=2.0, reward_s=0.5, learn_s=3.0, sync_s=0.1, handover_s=0.0, step_s=5.5, learner_wait_s=2.5,
    rollouts_wait_s=0.0,
)  # fmt: skip
MIXED = [(Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.1), (Outcome.NO_SQL, 0.0), (Outcome.INFRASTRUCTURE, None)]
MANIFEST = replace(FakeCluster().export_adapter(3), num_bytes=1000)
PUBLISHED = Published(manifest=MANIFEST, canary_kl=0.002, export_s=0.01, install_s=0.02, canary_s=0.03)


def metrics_of(*groups, **changes) -> StepMetrics:
    """Return the metrics of the scored groups; `changes` are arguments of `step_metrics`."""
    given = {
        "num_dropped_groups": 0,
        "refill_rounds": 2,
        "replaced_actors": 1,
        "ready_steps": 0,
        "published": PUBLISHED,
    }
    return step_metrics(groups, step_report(), TIMINGS, **(given | changes))


def step_record(step: int, **changes) -> StepMetrics:
    """`changes` are fields of the record."""
    return replace(metrics_of(scored_group(MIXED)), step=step, **changes)
