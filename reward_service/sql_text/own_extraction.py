"""The SQL of a completion as the run's prompt style has it: floe's own extraction, or that of a plug-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from floe.configs.errors import first_line
from floe.configs.plugins.faults import place_of
from floe.configs.plugins.kinds import PROMPT_STYLES
from floe.configs.plugins.making import made
from floe.configs.schema import PromptSection
from floe.reward_service.sql_text.extraction import extract_sql, trimmed

NO_SQL = "the completion holds no SQL"

Extraction = Callable[[str], str | None]


class NoAnswer(Exception):
    """A completion from which a plug-in takes no SQL; its text says why."""


def extraction_of(prompt: PromptSection, plugin_folder: Path | None) -> Extraction:
    """Return what takes the SQL from a completion. Raises ConfigError for a plug-in that can't be made."""
    if not PROMPT_STYLES.is_plugin(prompt.style):
        return extract_sql
    own = getattr(made(PROMPT_STYLES, prompt.style, prompt.arguments, plugin_folder), "sql_of", None)
    return extract_sql if own is None else OwnExtraction(prompt.style, own)


class OwnExtraction:
    """A plug-in's `sql_of`; whatever it does with a completion, the completion alone is judged by it."""

    def __init__(self, name: str, sql_of: Callable[[str], object]) -> None:
        self._name = name
        self._sql_of = sql_of

    def __call__(self, completion: str) -> str | None:
        """Return the SQL without surrounding space and closing semicolons, None without any. Raises NoAnswer."""
        try:
            found = self._sql_of(completion)
        except (Exception, SystemExit) as fault:
            raise NoAnswer(
                f"{NO_SQL}: sql_of of {self._name} raised {type(fault).__name__} ({first_line(fault)}) at "
                f"{place_of(fault)}"
            ) from fault
        if found is not None and not isinstance(found, str):
            raise NoAnswer(f"{NO_SQL}: sql_of of {self._name} returned {type(found).__name__} in place of text")
        return None if found is None else trimmed(found) or None
