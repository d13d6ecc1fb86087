"""The text of a completion, which trainers pass as text or as messages of a chat (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from floe.configs.errors import UserError


def listed(completions: object) -> list[Any]:
    """Return the completions. Raises UserError for a single one that is in no list, such as a bare text."""
    if isinstance(completions, str | bytes | Mapping) or not isinstance(completions, Iterable):
        raise UserError(f"completions is one {type(completions).__name__}: give a list, as in [completion].")
    return list(completions)


def text_of(completion: object) -> str:
    """Return the completion's text: of a chat that of the assistant's last message, without tool calls and images.

    A chat without such a message gives "", which holds no SQL. Raises UserError for what is neither text nor messages.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        completion = [completion]
    if isinstance(completion, Sequence) and all(isinstance(one, Mapping) for one in completion):
        answers = [one for one in completion if one.get("role", "assistant") == "assistant"]
        return _content(answers[-1].get("content")) if answers else ""
    raise UserError(
        f"A completion is {type(completion).__name__}: the reward takes texts, or chats as lists of messages with "
        "role and content."
    )


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type", "text") == "text"]
    return "".join(one for one in texts if isinstance(one, str))
