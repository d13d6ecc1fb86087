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


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that hold each of `NAMES`; the first that a record fills counts."""

    of: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(NAMES, ()))

    def names(self, what: str) -> tuple[str, ...]:
        return self.of[what]

    def line(self) -> str:
        """Say which field was taken for what; empty where every field has its usual name."""
        odd = [
            f"{what} from {' or '.join(names)}"
            for what, names in self.of.items()
            if names and not set(names) <= _EXPECTED[what]
        ]
        return f"fields: {', '.join(odd)}" if odd else ""


# Names of Spider, BIRD and Spider-Syn, which need not be reported.
_EXPECTED = {
    what: frozenset(
        {name, *({"SQL", "sql"} if what == "sql" else {"SpiderSynQuestion"} if what == "question" else set())}
    )
    for what, name in USUAL.items()
}


def given_fields(text: str) -> dict[str, tuple[str, ...]]:
    """Parse `question=utterance,sql=gold`. Raises UserError for any other name."""
    given: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        what, sign, name = part.partition("=")
        if not sign or what.strip() not in NAMES or not name.strip():
            raise UserError(f"--fields has {part!r}: give NAME=FIELD, the name one of {', '.join(NAMES)}.")
        given[what.strip()] = (name.strip(),)
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
