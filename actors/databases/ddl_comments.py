"""Comments on the columns of a CREATE TABLE statement, which SQLite keeps in its text alone (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# The order matters: a comment or a quoted text may hold what looks like any of the others.
_TOKENS = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<quoted> '(?:[^']|'')*'? | "(?:[^"]|"")*"? | `(?:[^`]|``)*`? | \[[^\]]*\]? )
  | (?P<break> \n )
  | (?P<sign> [(),] )
  | (?P<word> [^\s'"`\[(),/-]+ | [/-] )
    """,
    re.VERBOSE | re.DOTALL,
)
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})  # these open no column


class _Token(NamedTuple):
    kind: str
    text: str


def column_comments(create_table: str) -> dict[str, str]:
    """Return the comments by the column's name, in lower case and on one line each.

    A comment belongs to the column in whose definition it stands, or whose comma it follows on the same line. A comment
    on its own lines, or before a column's name on the same line, belongs to the next column.
    """
    comments: dict[str, list[str]] = {}
    column, next_ones, behind_comma = "", [], []  # the last definition's name, empty for a constraint
    depth, opens, is_line_start = 0, False, True  # `opens`: the next word begins a definition
    for token in _tokens(create_table):
        if token.kind == "comment" and depth:
            if is_line_start or (opens and not column and token.text[0] == "/"):
                next_ones.append(_said(token.text))
            elif opens:
                behind_comma += [_said(token.text)] if column else []
            else:
                comments.setdefault(column, []).append(_said(token.text))
            continue
        if token.kind == "break":
            comments.setdefault(column, []).extend(behind_comma)
            behind_comma, column = [], "" if opens else column
        elif opens and token.kind != "sign":
            column = "" if token.text.casefold() in _CONSTRAINTS else _name(token).casefold()
            comments.setdefault(column, []).extend([*next_ones, *behind_comma])
            next_ones, behind_comma, opens = [], [], False
        elif token.text == "(":
            depth += 1
            opens = opens or depth == 1
        elif token.text == ")":
            depth -= 1
        elif token.text == ",":
            opens = depth == 1
        is_line_start = token.kind == "break"
    return {name: "; ".join(filter(None, said)) for name, said in comments.items() if name and any(said)}


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKENS.finditer(text):
        yield _Token(str(match.lastgroup), match.group())


def _name(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    closing = "]" if token.text[0] == "[" else token.text[0]
    inner = token.text[1:].removesuffix(closing)
    return inner if closing == "]" else inner.replace(closing * 2, closing)


def _said(comment: str) -> str:
    inner = comment.removeprefix("--") if comment.startswith("--") else comment[2:].removesuffix("*/")
    return " ".join(inner.split())
