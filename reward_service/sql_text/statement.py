"""Tells from the text of an SQL string whether it is one query, and whether that query is ordered (pure).

It serves verdicts and messages; that nothing is written is guaranteed by the connection's authorizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Adjacent pieces of a literal with a doubled quote ('it''s') may match one after the other: the result is the same.
OPAQUE = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)""",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]+")
_SPACE = " \t\n\f\r\ufeff"  # characters that SQLite's tokenizer skips
_QUERY_VERBS = frozenset({"SELECT", "WITH", "VALUES"})
_CHANGING_VERBS = {"ALTER", "CREATE", "DELETE", "DROP", "INSERT", "REINDEX", "REPLACE", "UPDATE", "VACUUM"}
_TRANSACTION_VERBS = {"BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT"}
_OTHER_VERBS = _CHANGING_VERBS | _TRANSACTION_VERBS | {"ANALYZE", "ATTACH", "DETACH", "EXPLAIN", "PRAGMA"}
_SELECT = re.compile(rf"[{_SPACE}]*SELECT\b", re.IGNORECASE)
_MAIN_VERB = re.compile(r"\b(select|values|insert|replace\s+into|update|delete)\b", re.IGNORECASE)
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)
_BREAK = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")  # line ends of Python's text files and of str.splitlines
_PARENTHESIS = re.compile(r"[()]")


def rejection_reason(sql: str) -> str | None:
    """Return why `sql` is not exactly one SELECT, WITH or VALUES statement, or None when it may be one.

    Text that begins with no verb of SQLite passes: SQLite itself calls it a syntax error.
    """
    if ";" not in sql and _SELECT.match(sql):
        return None
    text = _skeleton(sql)
    statement, _, rest = text.strip(_SPACE).partition(";")
    word = _WORD.match(statement)
    verb = word.group().upper() if word else ""
    if not statement.strip(_SPACE):
        return "there is no statement, only white space, comments or a semicolon"
    if verb in _OTHER_VERBS:
        return f"the statement is {verb}; only SELECT, WITH or VALUES can be an answer"
    if rest.strip(_SPACE + ";"):
        return "there is more than one statement; exactly one is expected"
    if verb == "WITH":
        main = next((m.group() for part in _outermost(statement) if (m := _MAIN_VERB.search(part))), "SELECT")
        if main.upper() not in _QUERY_VERBS:
            return f"the statement is WITH ... {main.upper()}; only a query can be an answer"
    return None


def has_outermost_order_by(sql: str) -> bool:
    """Return whether the outermost query of `sql`, not one in parentheses, has an ORDER BY."""
    return any(_ORDER_BY.search(part) for part in _outermost(_skeleton(sql)))


def one_line(sql: str) -> str | None:
    """Return `sql` without comments, line breaks and tabs; None when a quoted text holds one, which it can't lose."""
    pieces, end = [], 0
    for match in OPAQUE.finditer(sql):
        pieces.append(sql[end : match.start()])
        end = match.end()
        if not match.group("comment") and _BREAK.search(match.group()):
            return None
        pieces.append(" " if match.group("comment") else match.group())
    return _BREAK.sub(" ", "".join([*pieces, sql[end:]])).strip()


def first_semicolon(sql: str) -> int:
    """Return the place of the first semicolon outside of quotes and comments, -1 without one."""
    if ";" not in sql:
        return -1
    place = 0
    for quoted in OPAQUE.finditer(sql):
        end = sql.find(";", place, quoted.start())
        if end >= 0:
            return end
        place = quoted.end()
    return sql.find(";", place)


def without_empty_end(sql: str) -> str:
    """Return `sql` up to its first semicolon if only semicolons and comments follow: the driver counts these."""
    end = first_semicolon(sql)
    is_end = end >= 0 and not without_comments(sql[end:]).strip(_SPACE + ";")
    return sql[:end] if is_end else sql


def without_comments(sql: str) -> str:
    return OPAQUE.sub(lambda match: " " if match.group("comment") else match.group(), sql)


def _skeleton(sql: str) -> str:
    """Return `sql` with every comment replaced by a space and every quoted text by an empty one."""
    return OPAQUE.sub(lambda match: " " if match.group("comment") else "''", sql)


def _outermost(skeleton: str) -> Iterator[str]:
    """Return the stretches of `skeleton` that stand in no parenthesis."""
    depth, start = 0, 0
    for match in _PARENTHESIS.finditer(skeleton):
        if depth == 0:
            yield skeleton[start : match.start()]
        depth = max(0, depth + (1 if match.group() == "(" else -1))
        start = match.end()
    if depth == 0:
        yield skeleton[start:]
