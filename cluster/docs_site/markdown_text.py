"""Texts of the code as Markdown (pure)."""

from __future__ import annotations


def prose(text: str) -> str:
    """Return a sentence of the code with what Markdown would take for markup escaped, outside of `code`."""
    parts = text.split("`")
    plain = [part.replace("&", "&amp;").replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    parts[::2] = plain
    return "`".join(parts)


def code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
