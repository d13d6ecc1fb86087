"""The adapter's way to the rollout actors, and the canary that watches the whole of it.

The actors prove by count and digest that they hold the exported weights (`actors/engine/vllm_engine.py`). The canary
shows that the weights act: a fixed text's log-probabilities under the engine and under the learner have to agree. How
far they may differ is measured at the start, between the noise of the base model on both sides and what a probe adapter
with large weights does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Protocol

from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.messages import AdapterManifest, AdapterReceipt, GroupRequest, PromptWithAnswers, RolloutGroup
from floe.configs.errors import AdapterProofError

PROBE_VERSION = 1_000_000_000  # far from any version of a run
MIN_EFFECT_TO_NOISE = 10.0
MIN_NOISE = 1e-4  # nats per token; below, two sides that agree to the bit would make any difference a fault


class ExportingLearner(Protocol):
    def export_adapter(self, version: int) -> AdapterManifest: ...
    def export_probe(self, version: int) -> AdapterManifest: ...
    def canary_logprobs(self, token_ids: Sequence[int], with_adapter: bool) -> list[float]: ...

    def answer_logprobs(self, text: PromptWithAnswers) -> list[list[float]]: ...


class InstallingRollouts(Protocol):
    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]: ...
    def canary_logprobs(self, token_ids: Sequence[int], adapter_version: int | None) -> list[list[float]]: ...
    def canary_groups(self, request: GroupRequest, adapter_version: int | None) -> list[RolloutGroup]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One version's broadcast: what was sent, how far engine and learner differ on the canary, and the seconds."""

    manifest: AdapterManifest
    canary_kl: float  # nats per token, the largest of the actors
    export_s: float
    install_s: float
    canary_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryScale:
    """Mean absolute differences of log-probability, in nats per token."""

    noise: float  # engine against learner, both without an adapter
    effect: float  # engine with the probe adapter against engine without

    @property
    def limit(self) -> float:
        """The point halfway, in orders of magnitude."""
        return math.sqrt(max(self.noise, MIN_NOISE) * self.effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One version on its way: what is sent, and the learner's log-probabilities of the canary."""

    manifest: AdapterManifest
    canary_logprobs: tuple[float, ...]
    export_s: float
    canary_s: float


class Broadcast:
    """Sends adapter versions to every rollout actor; raises AdapterProofError before one rollout is used."""

    def __init__(
        self,
        learner: ExportingLearner,
        rollouts: InstallingRollouts,
        device: DeviceTurns,
        canary_ids: Sequence[int],
        longest: GroupRequest | None = None,
    ) -> None:
        """Measure the canary's scale with `canary_ids`, a text of at least 2 tokens.

        `longest` asks for a few tokens after the longest prompt of the run, at temperature 1.
        """
        self._learner = learner
        self._rollouts = rollouts
        self._device = device
        self._canary_ids = tuple(canary_ids)
        self._longest = longest
        self.scale = self._measure()

    def publish(self, version: int) -> Published:
        """Export and install, with the device handed over to the learner and back."""
        self._device.to_learner()
        exported = self.export(version)
        self._device.to_rollouts()
        return self.install(exported)

    def export(self, version: int) -> Exported:
        """Export the adapter, in the learner's turn."""
        started_s = time.perf_counter()
        manifest = self._learner.export_adapter(version)
        exported_s = time.perf_counter()
        expected = self._learner.canary_logprobs(self._canary_ids, with_adapter=True)
        return Exported(
            manifest=manifest,
            canary_logprobs=tuple(expected),
            export_s=exported_s - started_s,
            canary_s=time.perf_counter() - exported_s,
        )

    def install(self, exported: Exported) -> Published:
        """Install it on every actor, and check that it acts; in the rollouts' turn."""
        started_s = time.perf_counter()
        self._rollouts.install(exported.manifest)
        installed_s = time.perf_counter()
        canary_kl = self._check(exported)
        return Published(
            manifest=exported.manifest,
            canary_kl=canary_kl,
            export_s=exported.export_s,
            install_s=installed_s - started_s,
            canary_s=exported.canary_s + time.perf_counter() - installed_s,
        )

    def prove_on_longest(self, version: int) -> None:
        """Have every actor answer the longest prompt, and compare with the learner; in the rollouts' turn.

        The short text of each broadcast does not show what a model does differently only above some length.
        """
        if self._longest is None:
            return
        groups = self._rollouts.canary_groups(self._longest, version)
        self._device.to_learner()
        prompt = self._longest.prompt_token_ids
        for number, group in enumerate(groups):
            answers = tuple(one.token_ids for one in group.completions)
            text = PromptWithAnswers(prompt_token_ids=prompt, answers=answers)
            expected = chain.from_iterable(self._learner.answer_logprobs(text))
            found = chain.from_iterable(one.logprobs for one in group.completions)
            self._raise_beyond_limit(version, number, f"after {len(prompt)} tokens", list(found), list(expected))
        self._device.to_rollouts()

    def _measure(self) -> CanaryScale:
        self._device.to_learner()
        expected = self._learner.canary_logprobs(self._canary_ids, with_adapter=False)
        probe = self._learner.export_probe(PROBE_VERSION)
        self._device.to_rollouts()
        base = self._rollouts.canary_logprobs(self._canary_ids, None)
        noise = max(_mean_difference(found, expected) for found in base)
        self._rollouts.install(probe)
        probed = self._rollouts.canary_logprobs(self._canary_ids, PROBE_VERSION)
        effect = min(_mean_difference(*pair) for pair in zip(probed, base, strict=True))
        # Negated, so that a NaN fails too.
        if not effect >= MIN_EFFECT_TO_NOISE * max(noise, MIN_NOISE):
            raise AdapterProofError(
                f"the canary can't tell an adapter from none: the probe adapter changes a log-probability by "
                f"{effect:.4f} nats, engine and learner differ by {noise:.4f} without one; do both have the same model?"
            )
        return CanaryScale(noise=noise, effect=effect)

    def _check(self, exported: Exported) -> float:
        version, expected = exported.manifest.version, exported.canary_logprobs
        largest_kl = 0.0
        for number, found in enumerate(self._rollouts.canary_logprobs(self._canary_ids, version)):
            self._raise_beyond_limit(version, number, "on the canary", found, expected)
            largest_kl = max(largest_kl, _kl(found, expected))
        return largest_kl

    def _raise_beyond_limit(
        self, version: int, number: int, where: str, found: Sequence[float], expected: Sequence[float]
    ) -> None:
        difference = _mean_difference(found, expected)
        if not difference <= self.scale.limit:
            raise AdapterProofError(
                f"adapter version {version}: {where}, rollout actor {number} and the learner differ by "
                f"{difference:.4f} nats per token, at most {self.scale.limit:.4f} were expected: the engine does "
                "not compute with this adapter"
            )


def _mean_difference(one: Sequence[float], other: Sequence[float]) -> float:
    return fmean(abs(x - y) for x, y in zip(one, other, strict=True))


def _kl(engine: Sequence[float], learner: Sequence[float]) -> float:
    """Return k3 of Schulman, "Approximating KL Divergence" (2020), over the tokens of one text: never negative."""
    ratios = [x - y for x, y in zip(learner, engine, strict=True)]
    return fmean(math.expm1(ratio) - ratio for ratio in ratios)
