"""The bodies of requests to an endpoint, and the reading of what it answers (pure)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from floe.configs.files.foreign_files import parsed_json
from floe.configs.sections.bounds import MAX_COUNT

MAX_QUOTED_CHARACTERS = 300
SEEDS = 2**31  # some servers take no larger seed
CHAT, COMPLETIONS = "chat", "completions"
PATHS = {CHAT: "/chat/completions", COMPLETIONS: "/completions"}
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecognized|unknown|not permitted|forbidden|unexpected|not allowed|only the default|"
    r"deprecated|instead",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^<>]{0,200}>")


class BadReply(Exception):
    """An answer that is no completion; the message quotes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One answer that is wanted. `content` is the chat's messages, or the prompt's text."""

    question_id: str
    content: list[dict[str, str]] | str
    num_prompt_tokens: int  # by the configured model's tokenizer
    sample: int
    temperature: float
    max_new_tokens: int
    seed: int | None  # None for a greedy answer

    def key(self, url: str, model: str) -> str:
        """Return the digest of everything that the answer depends on, except for the server's own state."""
        parts = [url, model, self.content, self.temperature, self.max_new_tokens, self.seed, self.sample]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server takes: some models take no temperature, no seed, or the limit under another name."""

    limit_name: str = "max_tokens"
    has_temperature: bool = True
    has_seed: bool = True

    @property
    def without(self) -> tuple[str, ...]:
        """Settings that are not sent."""
        named = (("temperature", self.has_temperature), ("seed", self.has_seed))
        return tuple(name for name, is_sent in named if not is_sent)

    def adapted(self, body: bytes) -> Dialect | None:
        """Return the dialect after a refusal that names a setting as one that is not taken; None for another one."""
        text = body[:4096].decode("utf-8", "replace")
        if not _UNSUPPORTED.search(text):
            return None
        if self.limit_name == "max_tokens" and _names(text, "max_tokens"):
            return replace(self, limit_name="max_completion_tokens")
        if self.has_temperature and _names(text, "temperature"):
            return replace(self, has_temperature=False)
        if self.has_seed and _names(text, "seed"):
            return replace(self, has_seed=False)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer; tokens are None where the server does not count them."""

    text: str
    is_truncated: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    without: tuple[str, ...] = ()  # settings that were not sent


def body_of(ask: Ask, model: str, dialect: Dialect) -> bytes:
    """Return the request's body. Characters that UTF-8 does not have become question marks."""
    fields: dict[str, Any] = {"model": model, dialect.limit_name: ask.max_new_tokens}
    fields["prompt" if isinstance(ask.content, str) else "messages"] = ask.content
    if dialect.has_temperature:
        fields["temperature"] = ask.temperature
    if dialect.has_seed and ask.seed is not None:
        fields["seed"] = ask.seed
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def reply_of(body: bytes, api: str) -> Reply:
    """Return the answer in a body. Raises BadReply. No text is an answer too: the model was asked and gave none."""
    try:
        found = parsed_json(body)
    except ValueError:
        raise BadReply(f"no JSON but {quoted(body)}") from None
    if isinstance(found, dict) and not found.get("choices") and found.get("error"):
        raise BadReply(f"an error in place of an answer: {message_of(body)}")
    try:
        choice = found["choices"][0]
        text = _text(choice["message"]["content"] if api == CHAT else choice["text"])
    except (KeyError, IndexError, TypeError):
        raise BadReply(f"no completion but {quoted(body)}") from None
    usage = found.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(
        text=text.encode("utf-8", "replace").decode(),
        is_truncated=choice.get("finish_reason") == "length",
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
    )


def message_of(body: bytes) -> str:
    """Return what an error's body says, in one line without markup."""
    text = body[:65_536].decode("utf-8", "replace")
    try:
        found = parsed_json(text)
    except ValueError:
        found = None
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    said = found if isinstance(found, str) else _TAG.sub(" ", text)
    return " ".join(said.split()) or "without a message"


def cut(text: str) -> str:
    """Return the text, shortened to what fits a sentence."""
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…"


def quoted(body: bytes) -> str:
    """Return the beginning of a body in quotes, without control characters; long enough to cut no key at its end."""
    text = body[:65_536].decode("utf-8", "replace")
    return "'" + "".join(one if one.isprintable() else " " for one in text) + "'"


def ended(text: str, stop_texts: Sequence[str]) -> str:
    """Return the text up to the first stop text, which stays: as the engine would have ended it."""
    ends = [text.index(one) + len(one) for one in stop_texts if one in text]
    return text[: min(ends)] if ends else text


def _text(content: object) -> str:
    """Return the text of a message's content: a text, none, or a list of parts, some of which may be thoughts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError(f"content is of type {type(content).__name__}")
    texts = [one["text"] for one in content if one["type"] == "text"]
    return "".join(texts)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def _names(text: str, setting: str) -> bool:
    return re.search(rf"['\"`]{setting}\\?['\"`]", text) is not None  # JSON within JSON has a backslash
