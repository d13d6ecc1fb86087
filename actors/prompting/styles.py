"""The style that a configuration names: one that floe ships, or a plug-in held to what a style promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from floe.actors.databases.schemas import TableSchema
from floe.actors.prompting.prompt_style import PromptStyle
from floe.actors.prompting.prompts import STYLES, created_tables, named_tables
from floe.configs.errors import UserError, first_line
from floe.configs.plugins.faults import place_of
from floe.configs.plugins.kinds import PROMPT_STYLES
from floe.configs.plugins.making import made
from floe.configs.schema import PromptSection

ROLES = ("system", "user", "assistant")

T = TypeVar("T")


def style_of(section: PromptSection, plugin_folder: Path | None) -> PromptStyle:
    """Return the run's style. Raises ConfigError and UserError for a plug-in that is none."""
    if not PROMPT_STYLES.is_plugin(section.style):
        return STYLES[section.style]
    return CheckedStyle(section.style, made(PROMPT_STYLES, section.style, section.arguments, plugin_folder))


class CheckedStyle:
    """A plug-in whose faults end in a sentence that names it, with defaults for what it leaves out."""

    def __init__(self, name: str, style: Any) -> None:
        """Take the plug-in. Raises UserError where one of its attributes is of a wrong kind."""
        self._name, self._style = name, style
        self.prefill: str = self._attribute("prefill", "", str)
        self.shows_values: bool = self._attribute("shows_values", False, bool)
        self.shows_reads: bool = self._attribute("shows_reads", True, bool)
        stop_texts = self._attribute("stop_texts", (), (tuple, list))
        if any(not isinstance(one, str) or not one for one in stop_texts):
            raise UserError(f"{self._who}, whose stop_texts are {stop_texts!r}: give texts that are not empty.")
        self.stop_texts: tuple[str, ...] = tuple(stop_texts)
        self._schema: Callable[[Sequence[TableSchema]], str] = getattr(
            style, "schema", created_tables if self.shows_values else named_tables
        )

    def schema(self, tables: Sequence[TableSchema]) -> str:
        return self._text("schema", self._called("schema", lambda: self._schema(tuple(tables))))

    def messages(self, question: str, evidence: str, schema: str) -> list[dict[str, str]]:
        given = self._called("messages", lambda: self._style.messages(question, evidence, schema))
        try:
            found = [{"role": one["role"], "content": one["content"]} for one in given]
        except (TypeError, KeyError):
            found = []
        is_right = found and all(one["role"] in ROLES and isinstance(one["content"], str) for one in found)
        if not is_right or found[-1]["role"] != "user":
            raise UserError(
                f"{self._who}, whose messages(...) returned {_shown(given)}: return a list of messages with `role` "
                f"({', '.join(ROLES)}) and `content`, of which the last is the user's."
            )
        return found

    def answer(self, sql: str, reads: str) -> str:
        return self._text("answer", self._called("answer", lambda: self._style.answer(sql, reads)))

    @property
    def _who(self) -> str:
        return f"{PROMPT_STYLES.key} is {self._name!r}"

    def _attribute(self, name: str, default: Any, kind: type | tuple[type, ...]) -> Any:
        found = getattr(self._style, name, default)
        if not isinstance(found, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(one.__name__ for one in kinds)
            raise UserError(f"{self._who}, whose {name} is {_shown(found)}: give a {wanted}.")
        return found

    def _called(self, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (Exception, SystemExit) as fault:
            raise UserError(
                f"{self._who}, whose {name}(...) raised {type(fault).__name__} ({first_line(fault)}) at "
                f"{place_of(fault)}: correct it."
            ) from fault

    def _text(self, name: str, given: object) -> str:
        if not isinstance(given, str):
            raise UserError(f"{self._who}, whose {name}(...) returned {_shown(given)}: return a text.")
        return given


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
