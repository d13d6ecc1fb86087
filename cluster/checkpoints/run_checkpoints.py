"""Puts a running run's state into its checkpoints, and restores it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from floe.cluster.checkpoints.adapter_versions import read_versions, save_versions
from floe.cluster.checkpoints.state import RunInputs, RunState, library_versions
from floe.cluster.checkpoints.store import Checkpoint, CheckpointStore
from floe.cluster.health.state import GuardState
from floe.cluster.loop.adapter_broadcast import Published
from floe.cluster.messages import AdapterManifest, AdapterReceipt
from floe.configs.errors import AdapterProofError
from floe.configs.schema import RunConfig


class SavingLearner(Protocol):
    def save_state(self, folder: Path) -> None: ...
    def load_state(self, folder: Path) -> None: ...


class LiveAdapters(Protocol):
    def live_manifests(self) -> Sequence[AdapterManifest]: ...
    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]: ...


class Records(Protocol):
    @property
    def metrics_position(self) -> int: ...  # bytes of metrics.jsonl that are written


class Evidence(Protocol):
    def save(self, folder: Path, step: int) -> None: ...


class SavedHealth(Protocol):
    @property
    def state(self) -> GuardState: ...

    def save_best(self, checkpoint: Path) -> None: ...


class RunCheckpoints:
    """Writes a checkpoint every `run.checkpoint_every_steps` steps, and after the last."""

    def __init__(
        self,
        store: CheckpointStore,
        config: RunConfig,
        inputs: RunInputs,
        learner: SavingLearner,
        rollouts: LiveAdapters,
        records: Records,
        fetch_blob: Callable[[Any], np.ndarray],
        health: SavedHealth,
        evidence: Evidence | None = None,
    ) -> None:
        """Take the parts whose state a checkpoint holds; `evidence` is that of a run that estimates pass rates."""
        self._evidence = evidence
        self._store = store
        self._config = config
        self._inputs = inputs
        self._learner = learner
        self._rollouts = rollouts
        self._records = records
        self._fetch_blob = fetch_blob
        self._health = health

    def is_due(self, step: int, *, is_last: bool) -> bool:
        return is_last or step % self._config.run.checkpoint_every_steps == 0

    def write(self, step: int, *, is_last: bool) -> None:
        if not self.is_due(step, is_last=is_last):
            return
        health = self._health.state
        # The version that the next step is generated with.
        oldest = max(health.oldest_version, step - self._config.rollout.max_staleness)
        live = [manifest for manifest in self._rollouts.live_manifests() if oldest <= manifest.version <= step]
        state = RunState(
            step=step,
            metrics_position=self._records.metrics_position,
            configuration=self._config.model_dump(mode="json"),
            library_versions=library_versions(),
            live_adapter_versions=tuple(manifest.version for manifest in live),
            inputs=self._inputs,
            health=health,
        )

        def fill(folder: Path) -> None:
            self._learner.save_state(folder)
            save_versions(folder, live, self._fetch_blob)
            self._health.save_best(folder)
            if self._evidence is not None:
                self._evidence.save(folder, step)

        self._store.write(step, fill, state)


def restore(
    checkpoint: Checkpoint,
    rollouts: LiveAdapters,
    publish: Callable[[int], Published],
    put_blob: Callable[[np.ndarray], Any],
) -> None:
    """Have the engines hold every version that is still to be used; the learner exports the newest again.

    The learner has its state already. Raises AdapterProofError when what it exports differs from the checkpoint.
    """
    *older, newest = read_versions(checkpoint.folder, sorted(checkpoint.state.live_adapter_versions), put_blob)
    for manifest in older:
        rollouts.install(manifest)
    found = publish(checkpoint.state.step).manifest
    if found.digest != newest.digest:
        raise AdapterProofError(
            f"the learner that was restored from {checkpoint.folder} exports the adapter {found.digest[:12]}, the "
            f"checkpoint has {newest.digest[:12]}: go on with the libraries and the model of the run's beginning"
        )
