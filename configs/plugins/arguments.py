"""Arguments of plug-ins: keys that only the plug-in knows, so that its signature is what they are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

MAX_DEPTH = 20


def plain_value(value: Any, depth: int = 0) -> Any:
    """Return the value with tuples as lists. Raises ValueError for what JSON can't hold."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    match value:
        case None | bool() | int():
            return value
        case float():
            if value - value != 0:
                raise ValueError("holds a number that is not finite")
            return value
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("holds text that UTF-8 can't write") from None
            return value
        case list() | tuple():
            return [plain_value(one, depth + 1) for one in value]
        case Mapping():
            if odd := next((key for key in value if not isinstance(key, str)), None):
                raise ValueError(f"has the key {odd!r}, which is not text")
            return {key: plain_value(one, depth + 1) for key, one in value.items()}
    raise ValueError(f"holds a {type(value).__name__}: give numbers, texts, true, false, null, lists and mappings")


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    if odd := next((key for key in value if not key.isidentifier()), None):
        raise ValueError(f"arguments of a plug-in has the key {odd!r}, which can't be the name of an argument")
    try:
        return {key: plain_value(one) for key, one in value.items()}
    except ValueError as fault:
        raise ValueError(f"arguments of a plug-in {fault}") from None


Arguments = Annotated[dict[str, Any], AfterValidator(_checked)]
