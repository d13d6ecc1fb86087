"""Append-only log of gold checks, so that an interrupted preparation can resume."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from floe.cluster.messages import GoldInspection, Outcome
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.sections.reward_sections import instant_of

CLOCK_KEY = "clock"


def gold_key(sql: str, database_digest: str, time_limit_s: float, clock: str) -> str:
    """Return a key of everything that a verdict depends on."""
    text = json.dumps([sql, database_digest, time_limit_s, clock])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class VerdictLog:
    """An append-only file of JSON lines, for one process at a time; later lines override earlier ones."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises UserError while another process holds it."""
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"Another floe prepare is at work in {path.parent}: wait for it, or end it.") from None
        self._values: dict[str, Any] = {}
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # a line that a kill cut off
            self._file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = parsed_json(line)
                self._values[entry["key"]] = entry["value"]
            except (ValueError, KeyError, TypeError):
                self._file.close()
                raise UserError(f"Line {number} of {path} is no verdict: take the line out, or start anew.") from None

    def clock(self) -> str | None:
        """Return the instant, in UTC, at which the golds were last run. Raises UserError for any other value."""
        found = self._values.get(CLOCK_KEY)
        try:
            return None if found is None else instant_of(found)
        except ValueError as fault:
            raise UserError(f"The clock in {self._file.name} {fault}; or start anew.") from None

    def put_clock(self, clock: str) -> None:
        if clock != self.clock():
            self._append({CLOCK_KEY: clock})

    def inspection(self, key: str) -> GoldInspection | None:
        value = self._values.get(key)
        if value is None:
            return None
        return GoldInspection(
            **value | {"outcome": Outcome(value["outcome"]), "changes_by": tuple(value["changes_by"])}
        )

    def broken_texts(self, database_digest: str) -> dict[str, int] | None:
        """Return the row by table."""
        return self._values.get(f"texts/{database_digest}")

    def put_inspections(self, inspections: Mapping[str, GoldInspection]) -> None:
        self._append({key: asdict(one) for key, one in inspections.items()})

    def put_broken_texts(self, database_digest: str, rows: Mapping[str, int]) -> None:
        self._append({f"texts/{database_digest}": dict(rows)})

    def _append(self, values: Mapping[str, Any]) -> None:
        self._values.update(values)
        lines = (json.dumps({"key": key, "value": value}) + "\n" for key, value in values.items())
        self._file.write("".join(lines).encode())
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
