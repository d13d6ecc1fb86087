"""The place in a plug-in where an exception arose (pure)."""

from __future__ import annotations

import traceback


def place_of(fault: BaseException) -> str:
    """Return `FILE:LINE` of the innermost call within the plug-in's own file, and not within a library that it calls.

    Where the plug-in could not even be called, it is the place of the call.
    """
    frames = traceback.extract_tb(fault.__traceback__)
    caller = frames[0].filename
    own = next((one.filename for one in frames if one.filename != caller), caller)
    inner = next(one for one in reversed(frames) if one.filename == own)
    return f"{inner.filename}:{inner.lineno}"
