"""The status that a run writes to its file, and its description for a person."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json

SILENT_AFTER_S = 60.0  # seconds of silence of a living driver, which writes every second


class RunState(StrEnum):
    STARTING = "starting"
    WARM_START = "warm start"
    TRAINING = "training"
    EVALUATING = "evaluating"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DIED = "died"  # never written: the state that a reader finds when the driver is gone and its file says otherwise

    @property
    def is_end(self) -> bool:
        return self in (RunState.FINISHED, RunState.FAILED, RunState.INTERRUPTED, RunState.DIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSince:
    """A wait that had not ended; `since` is in Unix seconds."""

    owner: str
    what: str
    since: float
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of a run; times are Unix seconds."""

    state: RunState
    phase: str
    step: int  # the step at work while training, otherwise the last one that is done; counted from 1
    num_steps: int  # at most; a budget of tokens may end the run before
    waits: tuple[WaitSince, ...]  # the longest first
    pid: int  # the driver's
    started: float  # the driver's process began
    host: str
    updated: float
    error: str = ""  # the last one, as one sentence
    part: str = ""  # how far a long phase is
    left_s: float | None = None  # until the end; None: not known

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a status. Raises ValueError for anything else."""
        values: dict[str, Any] = parsed_json(text)
        try:
            waits = tuple(WaitSince(**wait) for wait in values.pop("waits"))
            return cls(**values | {"waits": waits, "state": RunState(values["state"])})
        except (TypeError, KeyError, AttributeError) as fault:
            raise ValueError(f"no status of a run: {fault}") from fault


def state_of_phase(phase: str) -> RunState:
    """Return the state of a run's phase in words for the person who watches."""
    if phase == "GRPO":
        return RunState.TRAINING
    if phase == "warm start":
        return RunState.WARM_START
    return RunState.EVALUATING if phase.startswith("evaluation") else RunState.STARTING


def error_sentence(error: BaseException) -> str:
    """Return the error's sentence; one raised in another process comes wrapped, its own text under `cause`."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return text if isinstance(error, UserError) else f"{type(cause).__name__}: {text}".removesuffix(": ")


def as_found(status: RunStatus, is_driver_alive: bool | None) -> RunStatus:
    """Return the status, with state `died` where the driver vanished; None: that can't be known from here."""
    gone = is_driver_alive is False and not status.state.is_end
    return replace(status, state=RunState.DIED) if gone else status


def describe(status: RunStatus, run_dir: Path, now: float, is_driver_alive: bool | None) -> list[str]:
    """Return lines for a person; `status` is as found."""
    lines = [_headline(status, run_dir)]
    if not status.state.is_end:
        if status.left_s is not None:
            lines.append(f"  about {_duration(status.left_s)} left in all")
        lines += [
            f"  {wait.owner} has waited {_duration(status.updated - wait.since)} for {wait.what} "
            f"(limit {_duration(wait.limit_s)})"
            for wait in status.waits
        ]
        if is_driver_alive is None:
            lines.append(f"  whether its driver is alive can be seen on {status.host} only")
        if now - status.updated > SILENT_AFTER_S:
            lines.append(f"  nothing was written for {_duration(now - status.updated)}")
    return lines


def _headline(status: RunStatus, run_dir: Path) -> str:
    driver = f"driver is process {status.pid} on {status.host}"
    go_on = f"go on with floe train --resume {run_dir}"
    match status.state:
        case RunState.FINISHED:
            return f"finished after {status.step} steps"
        case RunState.FAILED:
            return f"failed {_place(status)}: {status.error.rstrip('.')}; when that is fixed, {go_on}"
        case RunState.INTERRUPTED:
            return f"interrupted {_place(status)}; {go_on}"
        case RunState.DIED:
            waiting = f" while waiting for {status.waits[0].what}" if status.waits else ""
            return f"died {_place(status)}{waiting}; {go_on}"
        case RunState.TRAINING:
            return f"training, step {status.step} of {status.num_steps}; {driver}"
    part = f", {status.part}" if status.part else ""
    return f"{status.state}: {status.phase}{part}; {driver}"


def _place(status: RunStatus) -> str:
    return f"in step {status.step}" if state_of_phase(status.phase) is RunState.TRAINING else f"in '{status.phase}'"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"
