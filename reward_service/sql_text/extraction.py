"""Finds the SQL answer in a completion (pure), by the grammar of docs/reward_service.md.

Every pattern is linear in the text: none begins with a repetition, and none repeats a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from floe.reward_service.sql_text.statement import OPAQUE, first_semicolon

_THINK_OPEN = "<think>"
_ANSWER_OPEN, _ANSWER_CLOSE = "<answer>", "</answer>"
_QUOTES = "'\"`"
# A tag between quotes is text of the query.
_THINK_CLOSE = re.compile(rf"(?<![{_QUOTES}])</think>|</think>(?![{_QUOTES}])")
_ANSWER_TAG = re.compile(r"</?answer>")

_FENCE = re.compile(r"`{3,}|~{3,}")
_LABEL = re.compile(r"[ \t]*([^\s`~]*)")
_BLANK_LINE_END = re.compile(r"[ \t\r]*\n")
_INFO = re.compile(r"[ \t]+[^\s`][^\n`]*\n")  # what may follow a label: a title, a file
_LABEL_NAME = re.compile(r"[a-z0-9]+", re.IGNORECASE)
_SQL_LABELS = frozenset(
    {
        "ansi",
        "bigquery",
        "duckdb",
        "hive",
        "hiveql",
        "mariadb",
        "mssql",
        "mysql",
        "oracle",
        "pgsql",
        "plsql",
        "postgres",
    }
    | {"postgresql", "presto", "psql", "redshift", "snowflake", "spark", "sparksql", "sql", "sqlite", "sqlite3"}
    | {"trino", "tsql"}
)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")

_QUERY = (
    r"select\b|values[ \t\r\n]*\(|"
    r"with[ \t\r\n]+(?:recursive[ \t\r\n]+)?[^\s(]+[ \t\r\n]*(?:\([^()]*\)[ \t\r\n]*)?as\b"
)
_NO_QUERY = (
    r"create\s+(?:temp|temporary|table|view|index|unique|trigger|virtual)\b|insert\s+(?:or\s+\w+\s+)?into\b|"
    r"replace\s+into\b|update\s+[^\s;]+\s+set\b|delete\s+from\b|drop\s+(?:table|view|index|trigger)\b|alter\s+table\b|"
    r"explain\s+(?:query\s+plan\s+)?(?:select|with|values)\b|pragma\s+\w|attach\s+[\w'\"]|"
    r"vacuum\s*;|vacuum\s+(?:\w+\s+)?into\b"
)
_STATEMENT = re.compile(rf"[\s(\ufeff]*(?:{_QUERY}|{_NO_QUERY})", re.IGNORECASE)
_AT_A_BREAK = re.compile(rf"(?:^|(?<=[:\n]))[ \t]*(?=(?:{_QUERY}|{_NO_QUERY}))", re.IGNORECASE)
_ANYWHERE = (
    re.compile(rf"\b(?=SELECT\b|(?i:{_NO_QUERY}|with\s+(?:recursive\s+)?\w+\s+as\s*\(|values\s*\())"),
    re.compile(r"\bselect\b", re.IGNORECASE),
)


class _Block(NamedTuple):
    """A fenced block: where it begins and ends in the text, marks included, and its content."""

    start: int
    end: int
    is_labelled: bool  # labelled as SQL, of whatever dialect
    content: str


def extract_sql(completion: str) -> str | None:
    """Return the SQL of the answer, without surrounding space and closing semicolons; None where there is none.

    The answer is what follows the last `</think>`; a completion that never leaves its `<think>` has no answer.
    """
    closes = list(_THINK_CLOSE.finditer(completion))
    answer = completion[closes[-1].end() :] if closes else completion
    if not closes and _THINK_OPEN in answer:
        return None
    return next((sql for part in _parts(answer) if (sql := _sql_of(part))), None)


def fenced_sql(text: str) -> str | None:
    """Return the last fenced block that is labelled as SQL and not empty; otherwise the last that begins as SQL."""
    blocks = [(block.is_labelled, sql) for block in _blocks(text) if (sql := trimmed(block.content))]
    labelled = [sql for is_labelled, sql in blocks if is_labelled]
    others = [sql for is_labelled, sql in blocks if not is_labelled and _begins_as_sql(sql)]
    return next(iter([*labelled[::-1], *others[::-1]]), None)


def _parts(answer: str) -> Iterator[str]:
    """Yield the text in the last answer tags, then the text around them; without tags the whole text."""
    start, open_tag = answer.rfind(_ANSWER_OPEN), len(_ANSWER_OPEN)
    if start < 0:
        if _ANSWER_CLOSE not in answer:
            yield answer
            return
        start, open_tag = 0, 0  # the prompt has opened the answer
    inside, _, after = answer[start + open_tag :].partition(_ANSWER_CLOSE)
    yield inside
    yield _ANSWER_TAG.sub("\n", f"{answer[:start]}\n{after}")


def _sql_of(text: str) -> str | None:
    fenced = fenced_sql(text)
    if fenced is not None:
        return fenced
    pieces, end = [], 0
    for block in _blocks(text):
        pieces.append(text[end : block.start])
        end = block.end
    return trimmed(_bare_sql("\n".join([*pieces, text[end:]]))) or None


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the fenced blocks. A mark opens one where its label is SQL's, a line begins, or SQL follows at once.

    The block ends at the next mark of its kind that is as long, at one that is labelled as SQL, or with the text.
    """
    marks = list(_FENCE.finditer(text))
    index = 0
    while index < len(marks):
        mark = marks[index]
        index += 1
        is_labelled, content_start = _label(text, mark.end())
        if not (is_labelled or _begins_line(text, mark.start()) or _STATEMENT.match(text, mark.end())):
            continue
        end, end_of_content = len(text), len(text)
        for number in range(index, len(marks)):
            other = marks[number]
            is_close = other.group()[0] == mark.group()[0] and len(other.group()) >= len(mark.group())
            opens = _label(text, other.end())[0]
            if is_close or opens:
                end_of_content = other.start()
                end = other.start() if opens else other.end()
                index = number if opens else number + 1
                break
        else:
            index = len(marks)
        yield _Block(mark.start(), end, is_labelled, text[min(content_start, end_of_content) : end_of_content])


def _label(text: str, start: int) -> tuple[bool, int]:
    """Return whether the mark before `start` is labelled as SQL, and where its block's content begins."""
    label = _LABEL.match(text, start)
    assert label is not None
    name = _LABEL_NAME.match(label.group(1))
    if name is None or name.group().lower() not in _SQL_LABELS:
        # A word alone on the mark's line is another language's label, and no content.
        is_other = name is not None and _BLANK_LINE_END.match(text, label.end()) and not _STATEMENT.match(text, start)
        return False, label.end() if is_other else start
    info = _INFO.match(text, label.end())
    return True, label.end() if info is None or _begins_as_sql(info.group()) else info.end()


def _begins_line(text: str, start: int) -> bool:
    """Return whether only blanks and quote marks precede it in its line; each character is examined for one mark."""
    while start > 0 and text[start - 1] in " \t>":
        start -= 1
    return start == 0 or text[start - 1] == "\n"


def _begins_as_sql(text: str) -> bool:
    """Return whether the first part that is no comment and no opening parenthesis begins a statement."""
    place = 0
    while True:
        while place < len(text) and text[place] in " \t\r\n(\ufeff":
            place += 1
        comment = OPAQUE.match(text, place)
        if comment is None or not comment.group("comment"):
            return _STATEMENT.match(text, place) is not None
        place = comment.end()


def _bare_sql(text: str) -> str:
    """Return the statement of a text without fences: the whole, a code span, or from where a statement begins."""
    if _begins_as_sql(text):
        return _before_prose(text)
    spans = [span.group(1) for span in _INLINE_CODE.finditer(text) if _begins_as_sql(span.group(1))]
    if spans:
        return spans[-1]
    found = (match for pattern in (_AT_A_BREAK, *_ANYWHERE) if (match := pattern.search(text)))
    first = next(found, None)
    return "" if first is None else _before_prose(text[first.end() :])


def _before_prose(text: str) -> str:
    """Cut what follows the first semicolon, unless that is a further statement or a comment."""
    end = first_semicolon(text)
    rest = text[end + 1 :].strip(" \t\r\n;")
    is_prose = end >= 0 and rest and not _begins_as_sql(rest) and not OPAQUE.match(rest)
    return text[:end] if is_prose else text


def trimmed(sql: str) -> str:
    """Return the SQL without surrounding space and closing semicolons."""
    return sql.strip().rstrip("; \t\r\n\f\v")
