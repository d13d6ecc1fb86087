"""Finds which fields of a file's records hold what floe needs: given by `--fields` or guessed from names (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floe.configs.errors import UserError

# Names in the data sets that people share, the usual name first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "question_id": ("question_id", "instance_id", "id", "qid"),
    "database": ("db_id", "db_name", "database_id", "selected_database", "database", "db"),
    "question": (
        "question", "SpiderSynQuestion", "utterance", "nl_question", "natural_language_question", "sql_prompt", "nl",
    ),
    "sql": ("query", "SQL", "sql", "gold_sql", "gold", "sql_query", "sol_sql", "answer", "ground_truth"),
    "evidence": ("evidence", "external_knowledge", "hint", "knowledge", "instructions"),
    "difficulty": ("difficulty", "difficulty_tier", "hardness", "sql_complexity"),
}  # fmt: skip
USUAL = {"question_id": "question_id", "database": "db_id", "question": "question", "sql": "query",
         "evidence": "evidence", "difficulty": "difficulty"}  # fmt: skip
# What each of these names means in --fields.
_MEANT = {name: what for what, names in NAMES.items() for name in (what, *names)}


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that hold each of `NAMES`; the first that a record fills counts."""

    of: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(NAMES, ()))

    def names(self, what: str) -> tuple[str, ...]:
        return self.of[what]

    def line(self) -> str:
        """Say which field was taken for what; empty where none was found."""
        found = [f"{what} from {' or '.join(names)}" for what, names in self.of.items() if names]
        return f"fields: {', '.join(found)}" if found else ""


def names_of_fields() -> str:
    """Return the names that `--fields` takes, in words."""
    return ", ".join(what if what == name else f"{what} (or {name})" for what, name in USUAL.items())


def given_fields(text: str) -> dict[str, tuple[str, ...]]:
    """Parse `question=utterance,sql=gold`; each usual name of a field stands for it too, as in `query=gold`.

    Raises UserError for any other name, and for a field that is given twice.
    """
    given: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        written, sign, name = part.partition("=")
        what = _MEANT.get(written.strip())
        if not sign or what is None or not name.strip():
            raise UserError(f"--fields has {part!r}: give NAME=FIELD, the name one of {names_of_fields()}.")
        if what in given:
            raise UserError(f"--fields gives {what} twice, the second time as {part!r}: leave one out.")
        given[what] = (name.strip(),)
    return given


def guessed_fields(records: Iterable[Any], given: Mapping[str, tuple[str, ...]]) -> Fields:
    """Return the given fields and, for the others, the known names that some record fills."""
    filled = _filled(records)
    found = {what: given.get(what) or _first_filled(names, filled, what) for what, names in NAMES.items()}
    if not found["question"] and "query" in found["sql"] and len(_known(NAMES["sql"], filled)) > 1:
        # In LiveSQLBench `query` is the question.
        found["question"] = ("query",)
        found["sql"] = _first_filled([name for name in NAMES["sql"] if name != "query"], filled, "sql")
    return Fields(found)


def _filled(records: Iterable[Any]) -> set[str]:
    return {name for one in records if isinstance(one, dict) for name, value in one.items() if value not in (None, "")}


def _known(names: Sequence[str], filled: set[str]) -> list[str]:
    return [name for name in names if name in filled]


def _first_filled(names: Sequence[str], filled: set[str], what: str) -> tuple[str, ...]:
    known = _known(names, filled)
    if what == "sql" and known[:2] == ["query", "SQL"]:
        return ("query", "SQL")  # a file with both layouts' records, or with both fields in one, which have to agree
    return tuple(known[:1])
