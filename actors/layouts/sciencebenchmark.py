"""ScienceBenchmark: questions over CORDIS, OncoMX and SDSS, made for PostgreSQL; floe reads the databases as SQLite."""

from __future__ import annotations

from pathlib import Path

from floe.actors.layouts.interface import Layout, LayoutFile, Split
from floe.actors.layouts.places import databases_folder, places
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records
from floe.configs.errors import UserError

FILES: tuple[tuple[Split, str], ...] = (("train", "seed.json"), ("train", "synth.json"), ("test", "dev.json"))
SUBJECTS = ("cordis", "oncomx", "sdss", "skyserver")  # its database ids begin with one of these
DUMP = "restore.sql"  # of PostgreSQL, in its repository
DATABASES = ("databases", "database")


def records(path: Path) -> list[Record]:
    """Return the records; folder and file are part of their ids, since every subject has a `dev.json`."""
    return [_record(record, f"{path.parent.name}-{path.stem}") for record in read_records(path)]


def _record(record: Record, name: str) -> Record:
    if record.fault or not isinstance(record.value, dict):
        return record
    value = {"question_id": f"{name}-{record.index}"} | record.value
    return Record(where=record.where, index=record.index, value=value)


def _find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    return tuple(
        LayoutFile(
            split=split,
            questions=home / name,
            databases_dir=databases_dir or _databases(folder, home),
            part="dev" if split == "test" else "",
        )
        for split, name in FILES
        for home in places(folder)
        if (home / name).is_file() and _is_ours(home / name)
    )


def _databases(folder: Path, home: Path) -> Path:
    try:
        return databases_folder(folder, home, DATABASES)
    except UserError:
        dump = next((place / DUMP for place in (home, folder) if (place / DUMP).is_file()), None)
        if dump is None:
            raise
        raise UserError(
            f"{dump} is a dump of PostgreSQL, which floe does not read: put the databases as SQLite into "
            f"{folder / DATABASES[0]}/<db_id>/<db_id>.sqlite, or name their folder with --databases."
        ) from None


def _is_ours(path: Path) -> bool:
    try:
        return str(first_record(path).get("db_id", "")).startswith(SUBJECTS)
    except UserError:  # the layout that has the file reports what is wrong with it
        return False


LAYOUT = Layout(
    name="sciencebenchmark",
    summary="ScienceBenchmark: dev.json (or <subject>/dev.json, seed.json, synth.json), databases/ as SQLite",
    find=_find,
    records=records,
    semantics="bird",
)
