"""Records how far a contained child is, in memory that outlives it, so that its death is blamed on the right step."""

from __future__ import annotations

import mmap
import struct

_FIELDS = struct.Struct("<QQ")


class PositionBoard:
    """Memory of a fork server and its child: the present request's number, and how many of its answers are made."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, request_number: int, num_done: int) -> None:
        _FIELDS.pack_into(self._memory, 0, request_number, num_done)

    def read(self) -> tuple[int, int]:
        """Return the request number, 0 before the first, and the number of answers made, sent or not."""
        number, num_done = _FIELDS.unpack_from(self._memory, 0)
        return number, num_done
