"""Small files that are replaced whole: a crash or a full disk leaves the one before."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path` and rename it. Raises OSError, and then nothing else has changed."""
    beside = path.with_name(f"{path.name}.writing-{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
