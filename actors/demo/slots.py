"""Names the sets of column kinds that the slots of several shape lists accept."""

from __future__ import annotations

from floe.actors.demo.schemas import Kind

LISTED = frozenset(Kind) - {Kind.FOREIGN}
GROUPED = frozenset({Kind.CATEGORY})
NAMED = frozenset({Kind.NAME, Kind.ID})
