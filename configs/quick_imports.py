"""Speeds up imports of heavy libraries, whose millions of objects each garbage collection would visit."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Turn garbage collection off within the block, which saves 10 to 20 % of an import of some seconds."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
