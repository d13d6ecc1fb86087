"""Keeps the answers of an endpoint as they come, so that none is paid for twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.endpoints.protocol import Ask, Reply
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular

ANSWERS_FILE = "endpoint_answers.jsonl"
HOME_FOLDER = "endpoint_answers"  # folder of run.home


class KeptAnswers:
    """An append-only file with a line for each answer, which one evaluation at a time holds."""

    def __init__(self, path: Path, file: BinaryIO, known: dict[str, Reply], num_damaged: int) -> None:
        self.path = path
        self.num_damaged = num_damaged  # lines that are no answer: what they held is asked for again
        self._file = file
        self._known = known

    def get(self, key: str) -> Reply | None:
        return self._known.get(key)

    def put(self, key: str, ask: Ask, reply: Reply) -> None:
        """Append an answer; it is on the disk when this returns. Raises UserError."""
        line = {"key": key, "question_id": ask.question_id, "sample": ask.sample} | asdict(reply)
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as fault:
            raise _refusal(self.path, fault) from fault
        self._known[key] = reply


def answers_folder(home_dir: Path, endpoint: EndpointPolicy) -> Path:
    """Return where answers are kept without --out: one folder for each model at an address."""
    digest = hashlib.sha256(json.dumps([endpoint.url, endpoint.model]).encode()).hexdigest()
    return home_dir / HOME_FOLDER / digest[:16]


@contextmanager
def kept_answers(folder: Path) -> Iterator[KeptAnswers]:
    """Open a folder's answers, without a last line that was cut off. Raises UserError, also while another holds it."""
    path = folder / ANSWERS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"Another evaluation is asking an endpoint and keeps its answers in {path}: wait for its end, or choose "
            "another folder with --out."
        ) from None
    except OSError as fault:
        raise _refusal(path, fault) from fault
    try:
        try:
            whole = read_regular(path) if path.exists() else b""
            lines = whole[: whole.rfind(b"\n") + 1]
            file = path.open("ab")
            file.truncate(len(lines))
        except OSError as fault:
            raise _refusal(path, fault) from fault
        with file:
            known, num_damaged = _replies(lines)
            yield KeptAnswers(path, file, known, num_damaged)
    finally:
        lock.release()


def _replies(lines: bytes) -> tuple[dict[str, Reply], int]:
    """Return the answers by key, and the number of damaged lines, which are left out."""
    known, num_damaged = {}, 0
    for line in lines.splitlines():
        try:
            fields = parsed_json(line)
            known[str(fields["key"])] = Reply(
                text=str(fields["text"]),
                is_truncated=bool(fields["is_truncated"]),
                prompt_tokens=fields["prompt_tokens"],
                completion_tokens=fields["completion_tokens"],
                without=tuple(fields["without"]),
            )
        except (ValueError, KeyError, TypeError):
            num_damaged += 1
    return known, num_damaged


def _refusal(path: Path, fault: OSError) -> UserError:
    return UserError(f"Can't keep answers in {path} ({fault.strerror}): free space, or choose another folder.")
