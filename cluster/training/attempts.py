"""The attempts of a run: one after another, each from the newest checkpoint, while actors with state are lost."""

from __future__ import annotations

from dataclasses import dataclass

from floe.cluster.checkpoints.store import CheckpointStore
from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.ray_actors.placement import check_resources, ray_session
from floe.cluster.training.attempt import Run, train_on_cluster
from floe.configs.errors import ActorsLost

MAX_LOSSES_AT_A_STEP = 3  # of actors with state


def train_until_done(run: Run, store: CheckpointStore) -> EvaluationReport | None:
    """Train; after a loss of actors with state, continue from the newest checkpoint while there is progress between
    losses.
    """
    losses = Losses()
    while True:
        checkpoint = store.newest()
        try:
            with ray_session(run.config.cluster, namespace=f"floe-{run.run_dir.name}-{losses.num_all}") as line:
                run.progress.note(line)
                check_resources(run.given)
                return train_on_cluster(run, store, checkpoint)
        except ActorsLost as fault:
            newest = store.newest()
            losses.count(0 if newest is None else newest.state.step, fault)
            run.progress.note(f"{fault}")


@dataclass(slots=True)
class Losses:
    """Counts actor losses; fails when one step loses too many."""

    num_all: int = 0
    num_at_step: int = 0
    step: int = -1

    def count(self, step: int, fault: ActorsLost) -> None:
        """Count one loss; raises the fault when nothing was learnt since so many others."""
        self.num_all += 1
        self.num_at_step = self.num_at_step + 1 if step == self.step else 1
        self.step = step
        if self.num_at_step > MAX_LOSSES_AT_A_STEP:
            raise fault
