"""How far a contained child is, in memory that outlives it: what its death is to be blamed on."""

from __future__ import annotations

import mmap
import struct

_FIELDS = struct.Struct("<QQ")


class PositionBoard:
    """Shared by a fork server and its child: the present request's number, and how many answers of it are made."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, request_number: int, num_done: int) -> None:
        _FIELDS.pack_into(self._memory, 0, request_number, num_done)

    def read(self) -> tuple[int, int]:
        """Request number, 0 before the first, and number of answers made, sent or not."""
        number, num_done = _FIELDS.unpack_from(self._memory, 0)
        return number, num_done
