"""Normal forms by which two questions, or two gold queries, count as the same one (pure)."""

from __future__ import annotations

import unicodedata

import sqlglot
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

from floe.cluster.databases.dialect import DIALECT

EDGES = "?.!,;:'\"`()\u00b4\u2018\u2019\u201c\u201d"  # typographic quotes among them


def normal_question(text: str) -> str:
    """Return it without case, widths and extra white space, and without punctuation at the ends of its words."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(word for raw in words if (word := raw.strip(EDGES)))


def normal_sql(sql: str) -> str:
    """Return its tokens in lower case, quoted text unchanged in one kind of quotes; no comments or final semicolon."""
    try:
        tokens = sqlglot.tokenize(sql, read=DIALECT)
    except TokenError:
        return " ".join(sql.casefold().split())  # SQL that doesn't run
    quoted = (TokenType.STRING, TokenType.IDENTIFIER)  # "x" may be either in SQLite
    parts = [f"'{one.text}'" if one.token_type in quoted else one.text.casefold() for one in tokens]
    while parts and parts[-1] == ";":
        parts.pop()
    return " ".join(parts)
