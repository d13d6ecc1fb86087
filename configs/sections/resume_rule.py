"""What a key's change means for a run that goes on: every field of the sections is marked with its rule."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeVar

T = TypeVar("T")


class Rule(Enum):
    ANOTHER_RUN = "would make it another run"
    MAY_CHANGE_BITS = "may change results in the last bits"
    STEPS = "the learning rate's schedule spans the new number from here on"
    FREE = "changes no result"


Fixed = Annotated[T, Rule.ANOTHER_RUN]
NearlyFree = Annotated[T, Rule.MAY_CHANGE_BITS]  # how sequences fall into batches, and what computes them
Steps = Annotated[T, Rule.STEPS]
Free = Annotated[T, Rule.FREE]
