"""Reads questions of Spider's and BIRD's layouts, of data sets that name their fields otherwise, and people's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from floe.actors.records.fields import guessed_fields
from floe.actors.records.question_records import FoundQuestions, found_questions
from floe.actors.records.record_files import Record, read_records
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular_text
from floe.configs.files.paths import RELATIVE_RULE

NO_FIELDS: Mapping[str, tuple[str, ...]] = {}


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file, in its order.

    Each record holds `db_id`, `question`, `query` or `SQL` (text, or a list of accepted answers), and optionally
    `question_id` (otherwise its index, counted from 0), `evidence` and `difficulty`, or has them under one of the names
    of `actors/records/fields.py`. Raises UserError naming the file and the first record that is no question.
    """
    found = find_questions(path, read_records(path))
    for one in found.bad[:1]:
        raise UserError(f"In {path}, {one.where} {one.detail}.")
    return list(found.questions)


def find_questions(
    path: Path,
    records: list[Record],
    given_fields: Mapping[str, tuple[str, ...]] = NO_FIELDS,
    database_id: str | None = None,
) -> FoundQuestions:
    """Return the questions, and why each other record is none. Raises UserError for a file without any record."""
    if not records:
        raise UserError(f"{path} holds no question: give a file of records with db_id, question and query (or SQL).")
    fields = guessed_fields((one.value for one in records), given_fields)
    return found_questions(records, fields, database_id)


def ids_of_records(records: list[Record]) -> list[tuple[str, str]]:
    """Return question and database id of every record of a file that is a question, repeated ones included."""
    fields = guessed_fields((one.value for one in records), NO_FIELDS)
    found = (one for record in records for one in found_questions([record], fields).questions)
    return [(question.question_id, question.database_id) for question in found]


def first_record(path: Path) -> dict[str, Any]:
    """Return the first record of a questions file, empty when there is none. Raises UserError."""
    records = read_records(path)
    return records[0].value if records and isinstance(records[0].value, dict) else {}


def read_text(path: Path, what: str) -> str:
    """Return the text of an input file that the user named. Raises UserError, which calls the file `what`."""
    try:
        return read_regular_text(path, "utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no {what} {path}: check it ({RELATIVE_RULE}).") from None
    except IsADirectoryError:
        raise UserError(f"The {what} {path} is a folder: give the file in it.") from None
    except OSError as error:
        raise UserError(f"Can't read the {what} {path} ({error.strerror}): check its permissions.") from None
    except UnicodeDecodeError:
        raise UserError(f"The {what} {path} is not UTF-8 text: convert it.") from None


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Yield number (from 1) and value of each line that is not blank. Raises ValueError, whose text names the line."""
    # Split at "\n" only: JSON strings may hold the line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, parsed_json(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is not JSON ({' '.join(str(error).split())})") from None
