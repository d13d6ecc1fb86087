"""Prints text of others (questions, SQL, names of files) with its control characters made visible."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_KEPT = {ord("\n"), ord("\t")}
# Control characters of terminals: C0, DELETE and C1; those that reorder the rest of a line; and halves of characters.
_RANGES = ((0x00, 0x20), (0x7F, 0xA0), (0x202A, 0x202F), (0x2066, 0x206A), (0xD800, 0xE000))
_VISIBLE = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for start, end in _RANGES
    for code in range(start, end)
    if code not in _KEPT
}


def visible(text: str) -> str:
    """Return `text` with each control character as its escape, except for line breaks and tabs."""
    return text.translate(_VISIBLE)


def say(text: str, *, to_stderr: bool = False, end: str = "\n") -> None:
    """Print a line that may hold text of others."""
    stream: TextIO = sys.stderr if to_stderr else sys.stdout
    stream.write(visible(text) + end)
    stream.flush()


def show_what_cant_be_encoded() -> None:
    """Have stdout and stderr show as escapes what their encoding lacks, which would end a command otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


class ShownConsole(Console):
    """A console whose own control sequences alone reach the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)
