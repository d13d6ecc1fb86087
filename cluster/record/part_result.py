"""Results of a part of the record: figures with their bars, how long it took, and whether it is complete (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from floe.cluster.bench.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A ratio or another number without a unit, so that two machines can be compared; without bars it is shown only."""

    name: str
    value: float | None  # None: not measured
    at_least: float | None = None
    at_most: float | None = None

    @classmethod
    def of(cls, target: Target) -> Figure:
        return cls(name=target.name, value=target.ratio, at_least=target.at_least)

    @property
    def bar(self) -> str:
        """The bars in words, empty without one."""
        parts = [] if self.at_least is None else [f"at least {self.at_least:.3g}"]
        return ", ".join(parts if self.at_most is None else [*parts, f"at most {self.at_most:.3g}"])

    @property
    def misses(self) -> bool:
        """Answer whether a bar is missed: a NaN misses every bar, a figure that was not measured none."""
        if self.value is None:
            return False
        is_low = self.at_least is not None and not self.value >= self.at_least
        return is_low or (self.at_most is not None and not self.value <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    part: str
    is_complete: bool
    why: str = ""  # it is not complete: left out, or failed
    seconds: float = 0.0  # of wall time; of a part that was continued, its last call's
    date: str = ""  # on which it ended
    precision: str = ""  # of learner and engine
    notes: tuple[str, ...] = ()  # what was run, and at which size
    figures: tuple[Figure, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # mean reward by step, by the run's name

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> PartResult:
        """Read what `record` gave. Raises TypeError or KeyError for something else."""
        figures = tuple(Figure(**one) for one in record["figures"])
        curves = {name: tuple(rewards) for name, rewards in record["curves"].items()}
        return cls(**{**record, "notes": tuple(record["notes"]), "figures": figures, "curves": curves})


def figures_of(targets: Iterable[Target]) -> tuple[Figure, ...]:
    """Return what was measured of a bench's targets."""
    return tuple(Figure.of(one) for one in targets if one.ratio is not None)
