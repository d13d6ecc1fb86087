"""Reads questions in the layouts of Spider and BIRD: a JSON list, or one JSON object per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.messages import Question
from configs.errors import UserError
from configs.foreign_files import parsed_json, read_regular_text

GOLD_FIELDS = ("query", "SQL")
QUESTION_FIELDS = ("question", "SpiderSynQuestion")  # Spider-Syn's paraphrase stands in a field of its own


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, in its order.

    Each record holds `db_id`, `question`, `query` or `SQL` (text, or a list of accepted answers), and optionally
    `question_id` (else its index, counted from 0), `evidence` and `difficulty`. A record that repeats another in all
    of these counts once, as two do in BIRD's mini-dev. Raises UserError naming the file and the record.
    """
    questions = [_question(record, index, path) for index, record in enumerate(_records(path))]
    if not questions:
        raise UserError(f"{path} holds no question: give a file of Spider- or BIRD-layout JSON.")
    first_index: dict[str, int] = {}
    for index, question in enumerate(questions):
        first = first_index.setdefault(question.question_id, index)
        if questions[first] != question:
            raise UserError(
                f"In {path}, records {first} and {index} have the same question_id '{question.question_id}': "
                "give each its own."
            )
    return [questions[index] for index in first_index.values()]


def record_ids(path: Path) -> list[tuple[str, str]]:
    """Question and database id of every record of the file, in its order, those that repeat another included."""
    questions = [_question(record, index, path) for index, record in enumerate(_records(path))]
    return [(question.question_id, question.database_id) for question in questions]


def first_record(path: Path) -> dict[str, Any]:
    """The first record of a questions file, empty when there is none. Raises UserError."""
    records = _records(path)
    return records[0] if records and isinstance(records[0], dict) else {}


def read_text(path: Path, what: str) -> str:
    """The text of an input file that the user named. Raises UserError, which calls the file `what`."""
    try:
        return read_regular_text(path, "utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no {what} {path}: check the path.") from None
    except IsADirectoryError:
        raise UserError(f"The {what} {path} is a folder: give the file in it.") from None
    except OSError as error:
        raise UserError(f"Can't read the {what} {path} ({error.strerror}): check its permissions.") from None
    except UnicodeDecodeError:
        raise UserError(f"The {what} {path} is not UTF-8 text: convert it.") from None


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and value of each line that is not blank. Raises ValueError, whose text names the line."""
    # Not splitlines: JSON strings may hold the line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, parsed_json(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is not JSON ({' '.join(str(error).split())})") from None


def question_id_text(value: Any) -> str | None:
    """An id as the text that questions are found by; None for what can be no id."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)


def _records(path: Path) -> list[Any]:
    text = read_text(path, "questions file")
    try:
        if text.lstrip().startswith("["):
            return parsed_json(text)
        return [record for _, record in json_lines(text)]
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The questions file {path} is neither a JSON list nor JSON lines: {reason}.") from None


def _question(record: Any, index: int, path: Path) -> Question:
    where = f"In {path}, record {index}"
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object: give db_id, question and query (or SQL) in each.")
    question_id = question_id_text(record.get("question_id", index))
    if question_id is None:
        raise UserError(f"{where} has a question_id that is neither text nor a whole number: correct it.")
    evidence = record.get("evidence") or ""
    if not isinstance(evidence, str):
        raise UserError(f"{where} has an evidence that is not text: correct it or leave it out.")
    difficulty = record.get("difficulty") or ""
    if not isinstance(difficulty, str):
        raise UserError(f"{where} has a difficulty that is not text: correct it or leave it out.")
    return Question(
        question_id=question_id,
        database_id=_database_id(record, where),
        text=_text(record, next((one for one in QUESTION_FIELDS if record.get(one)), "question"), where),
        gold_sql=_gold_sql(record, where),
        evidence=evidence,
        difficulty=difficulty,
    )


def _database_id(record: dict[str, Any], where: str) -> str:
    database_id = _text(record, "db_id", where)
    # It becomes a path below the databases folder and must not lead out of it.
    if any(character in database_id for character in "/\\\0") or database_id in (".", ".."):
        raise UserError(f"{where} has the db_id {database_id!r}, which is no folder name: correct it.")
    return database_id


def _text(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where} has no {field}: give it as text.")
    return value


def _gold_sql(record: dict[str, Any], where: str) -> tuple[str, ...]:
    given = {field: record[field] for field in GOLD_FIELDS if record.get(field) is not None}
    if len(given) == 2 and given["query"] != given["SQL"]:
        raise UserError(f"{where} has both query and SQL, and they differ: leave out the wrong one.")
    value = next(iter(given.values()), None)
    answers = value if isinstance(value, list) else [value]
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise UserError(f"{where} has no gold query: give it as text in query or SQL.")
    return tuple(answers)
