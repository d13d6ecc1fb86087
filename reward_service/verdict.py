"""The outcome of running one statement, and the outcome that an exception of SQLite or Python stands for (pure)."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from floe.cluster.messages import Outcome

MAX_MESSAGE_CHARS = 300

_SYNTAX_PHRASES = ("syntax error", "incomplete input", "unrecognized token")
_REJECTED_PHRASES = ("not authorized", "prohibited", "You can only execute one statement at a time")
_PLACEHOLDER_PHRASES = ("Incorrect number of bindings", "did not supply a value for binding")
_DATABASE_FAULTS = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_BY_PRIMARY_CODE = {
    sqlite3.SQLITE_INTERRUPT: Outcome.TIMEOUT,
    sqlite3.SQLITE_TOOBIG: Outcome.TOO_LARGE,
    sqlite3.SQLITE_NOMEM: Outcome.TOO_LARGE,
    sqlite3.SQLITE_AUTH: Outcome.REJECTED,
}


class Verdict(NamedTuple):
    """The outcome of one statement; `seconds` are of CPU time."""

    outcome: Outcome
    message: str = ""
    seconds: float = 0.0
    is_empty: bool = False  # it ran and returned no rows on the main database


class NotAQuery(Exception):
    """The statement returns no columns, so it can't be an answer."""


class ResultTooLarge(Exception):
    """The statement returned more rows or bytes than its budget."""


class DatabaseUnavailable(Exception):
    """The database can't be opened or read, through no candidate's fault."""


# All that running a statement can raise by itself; any other exception is a fault of this program.
STATEMENT_ERRORS = (sqlite3.Error, sqlite3.Warning, MemoryError, UnicodeError, NotAQuery, ResultTooLarge)


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome that one of STATEMENT_ERRORS or DatabaseUnavailable stands for."""
    if isinstance(error, DatabaseUnavailable):
        return Outcome.INFRASTRUCTURE
    if isinstance(error, MemoryError | ResultTooLarge | sqlite3.DataError):
        return Outcome.TOO_LARGE
    if isinstance(error, NotAQuery):
        return Outcome.REJECTED
    if isinstance(error, UnicodeEncodeError) or "null character" in str(error):
        return Outcome.SYNTAX_ERROR  # text that can't even be passed to SQLite
    if isinstance(error, sqlite3.Error):
        return _outcome_of_sqlite(error)
    return Outcome.REJECTED if _has_phrase(error, _REJECTED_PHRASES) else Outcome.RUNTIME_ERROR


def _outcome_of_sqlite(error: sqlite3.Error) -> Outcome:
    extended_code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended_code & 0xFF
    if extended_code == sqlite3.SQLITE_IOERR_NOMEM:
        return Outcome.TOO_LARGE
    if extended_code == sqlite3.SQLITE_READONLY or _has_phrase(error, _REJECTED_PHRASES):
        return Outcome.REJECTED
    # Every other kind of READONLY is about the file: a hot journal to roll back, a folder that can't be written.
    if code in _DATABASE_FAULTS or code == sqlite3.SQLITE_READONLY:
        return Outcome.INFRASTRUCTURE
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        # A placeholder is the statement's own fault; all other errors of this kind are misuse of a connection.
        return Outcome.RUNTIME_ERROR if _has_phrase(error, _PLACEHOLDER_PHRASES) else Outcome.INFRASTRUCTURE
    if code in _BY_PRIMARY_CODE:
        return _BY_PRIMARY_CODE[code]
    return Outcome.SYNTAX_ERROR if _has_phrase(error, _SYNTAX_PHRASES) else Outcome.RUNTIME_ERROR


def _has_phrase(error: BaseException, phrases: tuple[str, ...]) -> bool:
    return any(phrase in str(error) for phrase in phrases)


def message_of(error: BaseException) -> str:
    """Return a short text for the log that any encoding can carry."""
    text = str(error) or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:MAX_MESSAGE_CHARS]
