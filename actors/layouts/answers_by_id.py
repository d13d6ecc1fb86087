"""EHRSQL: questions about hospitals, some without an answer; the form of 2024 has the golds in a separate file."""

from __future__ import annotations

import re
from pathlib import Path

from floe.actors.layouts.interface import Layout, LayoutFile, Split
from floe.actors.layouts.places import databases_folder, places
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular_text

LABELS = "label.json"
FORM_OF_2024 = "data.json"
CLONE = Path("dataset/ehrsql")  # of its repository
# Each split's file names, with their name as a part; the first that a place has counts.
SPLITS: tuple[tuple[Split, tuple[tuple[str, str], ...]], ...] = (
    ("train", (("train.json", "train"),)),
    ("test", (("dev.json", "dev"), ("valid.json", "valid"), ("test.json", "test"))),
    ("all", ((FORM_OF_2024, "all"),)),
)
DATABASES = ("databases", "database")
HOSPITALS = ("mimic_iii", "mimic3", "mimic_iv", "eicu")
# Its golds have words that its evaluation replaces before it runs them: the present time, and normal ranges.
PRESENT, PRESENT_OF_2024 = "2105-12-31 23:59:00", "2100-12-31 23:59:00"
NORMAL_RANGES = {
    "temperature": (35.5, 38.1), "sao2": (95.0, 100.0), "heart_rate": (60.0, 100.0), "respiration": (12.0, 18.0),
    "systolic_bp": (90.0, 120.0), "diastolic_bp": (60.0, 90.0), "mean_bp": (60.0, 110.0),
}  # fmt: skip
_TIME = re.compile(r"\bcurrent_time\b", re.IGNORECASE)
_WORDS = re.compile(rf"\b({'|'.join(NORMAL_RANGES)})_(lower|upper)\b|< =|> =", re.IGNORECASE)
_LITERALS = re.compile(r"('(?:[^']|'')*')")


def records(path: Path) -> list[Record]:
    """Return the records; a question that can't be answered has that as its fault. Golds may be in a file by id."""
    labels = path.with_name(LABELS)
    golds = parsed_json(read_regular_text(labels)) if labels.is_file() else {}
    if not isinstance(golds, dict):
        raise UserError(f"{labels} is no JSON object of golds by id: correct it.")
    has_instant = path.name != FORM_OF_2024  # whose golds mean SQLite's own `current_time`, without the date
    return [_record(record, golds, PRESENT if has_instant else None) for record in read_records(path)]


def runnable(gold: str, present: str | None) -> str:
    """Return a gold as SQLite runs it: `current_time` as this instant, `<vital sign>_lower` and `_upper` as numbers."""
    parts = _LITERALS.split(gold)  # every second one is a text in quotes
    for index in range(0, len(parts), 2):
        parts[index] = _WORDS.sub(_meant, parts[index])
        if present is not None:
            parts[index] = _TIME.sub(f"'{present}'", parts[index])
    return "".join(parts)


def _meant(found: re.Match[str]) -> str:
    if found[1]:
        return str(NORMAL_RANGES[found[1].lower()][found[2].lower() == "upper"])
    return found[0].replace(" ", "")


def _record(record: Record, golds: dict[str, object], present: str | None) -> Record:
    value = record.value
    if not isinstance(value, dict):
        return record
    gold = value.get("query", golds.get(str(value.get("id"))))
    is_impossible = value.get("is_impossible") is True or gold in ("null", "nan", None)
    fault = "is a question that can't be answered from the database (is_impossible)" if is_impossible else ""
    query = runnable(gold, present) if isinstance(gold, str) else gold
    return Record(where=record.where, index=record.index, value=value | {"query": query}, fault=record.fault or fault)


def _find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    return tuple(
        LayoutFile(split=split, questions=path, databases_dir=place, part=part)
        for split, part, path, place in _found(folder, databases_dir)
        if path == _first(path.parent, split)
    )


def _asked(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    return tuple(
        LayoutFile(split=split, questions=path, databases_dir=place, part=part)
        for split, part, path, place in _found(folder, databases_dir)
        if split != "train"
    )


def _found(folder: Path, databases_dir: Path | None) -> list[tuple[Split, str, Path, Path]]:
    """Return the files by split and part, of every hospital's folder: split, part, file, its databases."""
    start = folder / CLONE if (folder / CLONE).is_dir() else folder
    homes = places(start)
    return [
        (split, part, home / name, databases_dir or _databases(start, home))
        for split, names in SPLITS
        for name, part in names
        for home in homes
        if (home / name).is_file() and _is_ours(home / name)
    ]


def _first(home: Path, split: Split) -> Path:
    names = dict(SPLITS)[split]
    return next(home / name for name, _ in names if (home / name).is_file())


def _databases(folder: Path, home: Path) -> Path:
    """Return the folder of databases; in its repository each hospital's database lies next to its questions."""
    if any(home.glob(f"{home.name}.sqlite")) or any(home.glob(f"{home.name}.db")):
        return home.parent
    return databases_folder(folder, home, DATABASES)


def _is_ours(path: Path) -> bool:
    try:
        first = first_record(path)
    except UserError:  # the layout that has the file reports what is wrong with it
        return False
    return not {"is_impossible", "t_tag"}.isdisjoint(first) or first.get("db_id") in HOSPITALS


LAYOUT = Layout(
    name="ehrsql",
    summary="EHRSQL: train.json, valid.json, test.json (or dev.json; or data.json and label.json), databases/, or "
    "<hospital>/ of each with its <hospital>.sqlite",
    find=_find,
    records=records,
    asked=_asked,
    semantics="bird",
    advice=f"its time stands at {PRESENT} ({PRESENT_OF_2024} in the form of 2024): set reward.clock to that, so that "
    "answers that ask for the time get it",
)
