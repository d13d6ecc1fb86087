"""Writes small files that are replaced whole: a crash or a full disk leaves the earlier one."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text (in UTF-8) or bytes to a temporary file and rename it to `path`.

    Raises OSError, and then changes nothing.
    """
    beside = path.with_name(f"{path.name}.writing-{os.getpid()}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
