"""Finds the SQL answer in a completion (pure)."""

from __future__ import annotations

import re

_THINK_OPEN = "<think>"
_THINK_CLOSE = "</think>"
_ANSWER_CLOSE = "</answer>"
_FENCE = "```"
_KEYWORD = re.compile(r"\b(?:select|with|values)\b", re.IGNORECASE)
_SQL_LABEL = re.compile(r"[ \t]*(?:sqlite3?|sql)\b", re.IGNORECASE)
_OTHER_LABEL = re.compile(r"[ \t]*[\w+#.-]+[ \t]*\r?\n")


def extract_sql(completion: str) -> str | None:
    """The SQL of the answer, without surrounding space and closing semicolons; None where there is none.

    The answer is what follows the last `</think>`; a completion that never leaves its `<think>` has no answer.
    """
    _, closed, answer = completion.rpartition(_THINK_CLOSE)
    if not closed and _THINK_OPEN in answer:
        return None
    fenced = _last_sql_fence(answer)
    return _trim(fenced if fenced is not None else _bare_sql(answer)) or None


def _last_sql_fence(answer: str) -> str | None:
    pieces = answer.split(_FENCE)
    # Odd pieces stand inside a fence; the last one of a truncated completion may lack its closing fence.
    contents = (_sql_of_fence(piece) for piece in reversed(pieces[1::2]))
    return next((content for content in contents if content is not None), None)


def _sql_of_fence(block: str) -> str | None:
    if label := _SQL_LABEL.match(block):
        return block[label.end() :]
    label = _OTHER_LABEL.match(block)
    if label and not _KEYWORD.match(label.group().strip()):
        return None
    return block if _KEYWORD.search(block) else None


def _bare_sql(answer: str) -> str:
    start = _KEYWORD.search(answer)
    if start is None:
        return ""
    return answer[start.start() :].split(_ANSWER_CLOSE)[0].split(_FENCE)[0]


def _trim(sql: str) -> str:
    before = None
    while before != sql:
        before = sql
        sql = sql.strip().rstrip(";").removesuffix(_ANSWER_CLOSE)
    return sql
