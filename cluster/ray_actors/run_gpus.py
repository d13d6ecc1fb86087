"""Ray: the cards of a run, each watched on its own node, and told which phase of the main loop it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from floe.cluster.environment import visible_devices
from floe.cluster.loop.controller import Device
from floe.cluster.ray_actors.run_actors import RunActor, living_actors, own_node_id
from floe.cluster.tracking.gpu_step import GPU_ROLES, CardUse, GpuPhase, GpuStep
from floe.cluster.tracking.gpu_watch import NodeReadings, NodeWatch
from floe.cluster.waits import waits
from floe.configs.schema import RunConfig

PLACES_S = 30.0  # for all actors to say which cards they have, before the first step
READINGS_S = 10.0  # for the watches of the nodes to answer

Places = Mapping[str, tuple[str | None, ...]]  # CUDA_VISIBLE_DEVICES of a node's actors, by role


class GpuReadings(Protocol):
    def enter(self, phase: GpuPhase) -> None: ...

    def take(self) -> GpuStep | None:
        """Return what was read since the previous call; None where there is nothing to read."""


class NoGpus:
    """The readings of a run that asks for no card."""

    def enter(self, phase: GpuPhase) -> None:
        pass

    def take(self) -> GpuStep | None:
        return None


@contextmanager
def run_gpus(config: RunConfig, note: Callable[[str], object]) -> Iterator[GpuReadings]:
    """Read the cards of the actors while the main loop runs. `note` gets what can't be read, once."""
    asked = {"rollout": config.rollout.num_gpus, "learner": config.learner.num_gpus}
    roles = tuple(role for role in GPU_ROLES if asked[role] > 0)
    if not roles:
        yield NoGpus()
        return
    found = RunGpus(roles, note)
    try:
        yield found
    finally:
        found.close()


class RunGpus:
    """Readings of a run's cards; make it when the actors exist and have nothing to do.

    A reading that fails is never an error of the run.
    """

    def __init__(self, roles: tuple[str, ...], note: Callable[[str], object]) -> None:
        self._roles, self._note = roles, note
        self._said: set[str] = set()
        self._asked: dict[str, Any] = {}  # an actor's answer to come, by its name
        self._devices: dict[str, str | None] = {}
        self._places: dict[str, Places] = {}  # by node
        self._here = own_node_id()
        self._own = NodeWatch()
        self._others: dict[str, Any] = {}  # watches on other nodes
        self._find_cards(PLACES_S)

    def enter(self, phase: GpuPhase) -> None:
        self._own.enter(phase)
        for watch in self._others.values():
            watch.enter.remote(phase)

    def take(self) -> GpuStep | None:
        self._find_cards(0.0)  # an actor that was lost has a successor
        uses: list[CardUse] = []
        for node_id, readings in self._readings():
            uses += readings.uses
            for fault in readings.faults:
                self._say(node_id, fault)
        return GpuStep.of(uses) if uses else None

    def close(self) -> None:
        self._own.close()
        for watch in self._others.values():
            ray.kill(watch)

    def _readings(self) -> Iterator[tuple[str, NodeReadings]]:
        """Yield the readings of each node whose watch answers."""
        asked = {node_id: watch.take.remote() for node_id, watch in self._others.items()}
        yield self._here, self._own.take()
        for node_id, reference in asked.items():
            try:
                with waits.on("driver", "the GPU readings of another node", READINGS_S) as wait:
                    found = ray.get(reference, timeout=wait.left_s)
                yield node_id, found
            except RayError as fault:  # it is late, or its node has gone
                self._say(node_id, f"the watch does not answer ({type(fault).__name__})")

    def _find_cards(self, timeout_s: float) -> None:
        """Ask the actors that were not asked yet, and watch the cards of those that have answered."""
        actors = {one.name: one for one in living_actors() if one.role in self._roles}
        for name in actors.keys() - self._asked.keys():
            try:
                self._asked[name] = ray.get_actor(name).__ray_call__.remote(_devices_of_actor)
            except ValueError:  # it has gone meanwhile
                continue
        waiting = [self._asked[name] for name in actors.keys() & self._asked.keys() - self._devices.keys()]
        answered: list[Any] = []
        if waiting:
            with waits.on("driver", "the actors to say which cards they have", timeout_s) as wait:
                answered, _ = ray.wait(waiting, num_returns=len(waiting), timeout=wait.left_s)
        for name, reference in self._asked.items():
            if reference in answered:
                try:
                    self._devices[name] = ray.get(reference)
                except RayError as fault:
                    self._say(actors[name].node_id, f"{name} does not say which it has ({type(fault).__name__})")
        self._watch([actors[name] for name in sorted(actors.keys() & self._devices.keys())])

    def _watch(self, actors: list[RunActor]) -> None:
        places: dict[str, dict[str, tuple[str | None, ...]]] = {}
        for actor in actors:
            of_node = places.setdefault(actor.node_id, {})
            of_node[actor.role] = (*of_node.get(actor.role, ()), self._devices[actor.name])
        for node_id, of_node in places.items():
            if self._places.get(node_id) == of_node:
                continue
            self._places[node_id] = of_node
            if node_id == self._here:
                self._own.watch(of_node)
                continue
            if node_id not in self._others:
                self._others[node_id] = _watch_on(node_id)
            self._others[node_id].watch.remote(of_node)

    def _say(self, node_id: str, fault: str) -> None:
        if fault in self._said:
            return
        self._said.add(fault)
        where = "" if node_id == self._here else f" on node {node_id[:8]}"
        self._note(f"warning: GPU readings{where} are missing from the metrics: {fault}; the run goes on without them")


class WatchedDevice:
    """Tells the readings of each handover of the shared device."""

    def __init__(self, device: Device, gpus: GpuReadings) -> None:
        self._device, self._gpus = device, gpus

    def to_learner(self) -> None:
        self._gpus.enter(GpuPhase.HANDOVER)
        self._device.to_learner()
        self._gpus.enter(GpuPhase.LEARN)

    def to_rollouts(self) -> None:
        self._gpus.enter(GpuPhase.HANDOVER)
        self._device.to_rollouts()
        self._gpus.enter(GpuPhase.GENERATE)


def _watch_on(node_id: str) -> Any:
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(NodeWatch).options(num_cpus=0, scheduling_strategy=place).remote()


def _devices_of_actor(_: object) -> str | None:
    """Return what CUDA shows the process that calls it: Ray has set it to the cards of the actor."""
    return visible_devices()
