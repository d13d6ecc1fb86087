"""JSON that may stand between `<script type="application/json">` and its end (pure)."""

from __future__ import annotations

import json
from typing import Any


def script_json(value: Any) -> str:
    """Return JSON without a `<`, so that no text of the data can end the element or begin a comment in it.

    A lone surrogate, which has no UTF-8 form, stands as its escape. Raises ValueError for a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
