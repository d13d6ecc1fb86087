"""Chooses the cases of a costly set that every lane runs; the others are CI's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], in_every_lane: Collection[Any]) -> list[Any]:
    """Return `values` for `pytest.mark.parametrize`; those that are not `in_every_lane` are marked `long`."""
    return [value if value in in_every_lane else pytest.param(value, marks=pytest.mark.long) for value in values]
