"""Settles how a prompt ends: template and style can each open a thought, and only one of them may do so (pure).

| template ends with | compact | tagged | arctic |
| --- | --- | --- | --- |
| no thought | - | adds `<think>` | adds `<think>` and a line break |
| an opened one and a line break | closes it | - | - |
| an opened one, bare | closes it | - | adds a line break |
| a closed one | - | opens it in its place | opens it in its place |

A style of a user's own goes as `compact` where its answers don't begin with a thought, and then adds its prefill.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENED = re.compile(r"<think>\s*\Z")
_CLOSED = re.compile(r"<think>\s*</think>\s*\Z")
_CLOSING = "\n\n</think>\n\n"  # Qwen3's template for an answer without a thought


@dataclass(frozen=True, slots=True)
class PromptEnd:
    """A rendered prompt that the answer follows, and the part of its end that belongs to the answer."""

    text: str
    answer_start: str  # put in front of a completion before anything is read in it


def with_answer_start(rendered: str, wanted: str) -> PromptEnd:
    """Return the chat template's output, generation prompt included, with `wanted` as the start of the answer."""
    opens_thought = wanted.startswith("<think>")
    if opened := _OPENED.search(rendered):
        if not opens_thought:
            return PromptEnd(f"{rendered[: opened.start()]}<think>{_CLOSING}{wanted}", wanted)
        if wanted.endswith("\n") and not opened.group().endswith("\n"):
            return PromptEnd(f"{rendered}\n", f"{opened.group()}\n")
        return PromptEnd(rendered, opened.group())
    closed = _CLOSED.search(rendered) if opens_thought else None
    before = rendered if closed is None else rendered[: closed.start()]
    return PromptEnd(before + wanted, wanted)
