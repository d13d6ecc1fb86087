"""The folder that `floe prepare` writes and training reads.

`train.json`, `tune.json`, `test.json` (records as BIRD's), `databases/` (links), `manifest.json`, `dropped.jsonl`,
`verdicts.jsonl` (what was checked already) and, once measured, `pass_rates.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floe.actors.questions.pass_rates import PASS_RATES_FILE, PassRate, read_pass_rates
from floe.actors.questions.questions import read_questions
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular
from floe.configs.files.paths import RELATIVE_RULE
from floe.configs.files.whole_files import write_whole
from floe.configs.sections.reward_sections import instant_of

MANIFEST_FILE, DROPPED_FILE, VERDICTS_FILE, DATABASES_FOLDER = (
    "manifest.json", "dropped.jsonl", "verdicts.jsonl", "databases",
)  # fmt: skip
SPLITS = ("train", "tune", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    databases_dir: Path
    splits: Mapping[str, tuple[Question, ...]]
    pass_rates: Mapping[str, PassRate]  # of training questions; empty when none were measured


def read_prepared(folder: Path) -> Prepared:
    """Return the prepared folder. Raises UserError for a folder that `floe prepare` did not finish."""
    if not (folder / MANIFEST_FILE).is_file():
        raise UserError(
            f"{folder} is not a folder that floe prepare has finished: run floe prepare, or give another "
            f"({RELATIVE_RULE})."
        )
    rates = read_pass_rates(folder / PASS_RATES_FILE) if (folder / PASS_RATES_FILE).is_file() else {}
    splits = {name: _read_split(folder / f"{name}.json") for name in SPLITS}
    return Prepared(databases_dir=folder / DATABASES_FOLDER, splits=splits, pass_rates=rates)


def clock_of_prepared(folder: Path) -> str | None:
    """Return the instant, in UTC, at which the folder's golds were run; None in a folder of an earlier version.

    Raises UserError for a folder that `floe prepare` did not finish.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = parsed_json(read_regular(path))
    except (OSError, ValueError):
        raise UserError(f"{path} can't be read: run floe prepare again, or give another folder.") from None
    clock = manifest.get("clock") if isinstance(manifest, dict) else None
    try:
        return None if clock is None else instant_of(clock)
    except ValueError as fault:
        raise UserError(f"'clock' of {path} {fault}, or run floe prepare again.") from None


def write_splits(folder: Path, splits: Mapping[str, Sequence[Question]]) -> None:
    for name in SPLITS:
        records = ",\n".join(_json(_record(one)) for one in splits.get(name, ()))
        write_if_changed(folder / f"{name}.json", f"[\n{records}\n]\n" if records else "[]\n")


def write_lines(path: Path, values: Sequence[Any]) -> None:
    write_if_changed(path, "".join(_json(value) + "\n" for value in values))


def write_if_changed(path: Path, text: str) -> None:
    """Write whole or not at all; leave a file alone that holds the text already."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    write_whole(path, text)


def link_databases(folder: Path, files: Mapping[str, Path]) -> None:
    """Make `databases/<db_id>/<db_id>.sqlite` lead to each file; links of an earlier preparation are replaced.

    A folder that has that form already is linked whole, with its descriptions and its further contents.
    """
    home = folder / DATABASES_FOLDER
    home.mkdir(exist_ok=True)
    for stale in [one for one in home.iterdir() if one.name not in files]:
        _remove_links(stale)
    for database_id, path in files.items():
        place, target = home / database_id, path.resolve()
        if path.parent.name == database_id and path.name == f"{database_id}.sqlite":
            _link(place, path.parent.resolve())
            continue
        if place.is_symlink():
            place.unlink()
        place.mkdir(exist_ok=True)
        _link(place / f"{database_id}.sqlite", target)
        log, log_link = Path(f"{target}-wal"), place / f"{database_id}.sqlite-wal"
        if log.is_file():  # without it the database would count as one that nobody has changed since
            _link(log_link, log)
        elif log_link.is_symlink():
            log_link.unlink()
        descriptions = path.parent / "database_description"
        if path.parent.name.casefold() == database_id.casefold() and descriptions.is_dir():
            _link(place / "database_description", descriptions.resolve())


def _link(place: Path, target: Path) -> None:
    if place.is_symlink() and place.readlink() == target:
        return
    if place.is_symlink() or place.exists():
        _remove_links(place)
    place.symlink_to(target)


def _remove_links(place: Path) -> None:
    """Remove a link, or a folder of links. Raises UserError for anything else, which floe did not make."""
    if place.is_symlink():
        place.unlink()
        return
    for one in place.iterdir():
        if not one.is_symlink():
            raise UserError(f"{one} was not made by floe prepare: move it elsewhere, or choose another folder.")
        one.unlink()
    place.rmdir()


def _read_split(path: Path) -> tuple[Question, ...]:
    if path.is_file() and path.read_text(encoding="utf-8").strip() == "[]":
        return ()
    return tuple(read_questions(path))


def _json(value: Any) -> str:
    """Return readable JSON where UTF-8 can carry it; half a surrogate pair, which JSON may hold, it cannot."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if any("\ud800" <= character <= "\udfff" for character in text) else text


def _record(question: Question) -> dict[str, Any]:
    """Return a record like BIRD's; several accepted answers are a list."""
    golds = question.gold_sql
    record = {
        "question_id": question.question_id,
        "db_id": question.database_id,
        "question": question.text,
        "SQL": golds[0] if len(golds) == 1 else list(golds),
        "evidence": question.evidence,
    }
    return record | ({"difficulty": question.difficulty} if question.difficulty else {})
