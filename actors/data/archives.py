"""Recognises the folders that people have of Spider and BIRD: which questions, over which databases folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actors.data.questions import first_record
from configs.errors import UserError

Layout = Literal["spider", "bird"]

SPIDER_DATABASES = ("database", "databases")
# Of each split, its question files, of which every one counts, and the names of its databases folder.
Splits = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]  # by name: question files, and databases folders
SPIDER_SPLITS: Splits = {
    "train": (("train_spider.json", "train_others.json"), SPIDER_DATABASES),
    "dev": (("dev.json",), SPIDER_DATABASES),
    "test": (("test.json",), ("test_database", "test_databases", *SPIDER_DATABASES)),
}
BIRD_SPLITS: Splits = {
    "train": (("train.json",), ("train_databases", "databases")),
    "dev": (("dev.json",), ("dev_databases", "databases")),
    "mini_dev": (("mini_dev_sqlite.json",), ("dev_databases", "databases")),
}
SPLITS_OF_LAYOUT: dict[Layout, Splits] = {"spider": SPIDER_SPLITS, "bird": BIRD_SPLITS}
# A file that only one of the two has; `dev.json` alone is told by the field of its golds.
SIGNS = {
    "spider": ("train_spider.json", "train_others.json", "tables.json"),
    "bird": ("train.json", "mini_dev_sqlite.json", "dev_tables.json", "dev_databases"),
}
# The six databases of `train_others.json` are empty in the release; contents for them lie in a folder of their own.
POPULATED_DATABASES = "databases_populated"
MAX_DEPTH = 2  # as in BIRD's `minidev/MINIDEV/`


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """One question file and the folder of its databases, `<db_id>/<db_id>.sqlite`."""

    questions: Path
    databases_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSplit:
    """`train`, `dev`, `test` (Spider) or `mini_dev` (BIRD); at least one file."""

    name: str
    files: tuple[ArchiveFile, ...]

    @property
    def databases_dir(self) -> Path:
        """Of its first file."""
        return self.files[0].databases_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    folder: Path
    layout: Layout
    splits: tuple[ArchiveSplit, ...]

    def split(self, name: str) -> ArchiveSplit | None:
        return next((split for split in self.splits if split.name == name), None)


def find_archive(folder: Path, databases_dir: Path | None = None, layout: Layout | None = None) -> Archive:
    """The splits that `folder` holds, in itself or, as BIRD's parts are unpacked, in folders below it.

    `databases_dir` replaces the folder that is looked for; a set derived from Spider may lie beside `spider/` and use
    its databases. Without `layout` it is told from the files. Raises UserError for a folder that is neither.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"There is no data folder {folder}: give the unpacked folder of Spider or BIRD.")
    if databases_dir is not None and not databases_dir.expanduser().is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    places = _places(folder)
    found = _layout_of(places, layout)
    if found is None:
        raise UserError(
            f"{folder} is in neither the layout of Spider nor that of BIRD: it should hold train_spider.json or "
            "dev.json beside database/, or dev.json beside dev_databases/."
        )
    given = None if databases_dir is None else databases_dir.expanduser().resolve()
    splits = []
    for name, (file_names, database_names) in SPLITS_OF_LAYOUT[found].items():
        home = next((place for place in places if any((place / one).is_file() for one in file_names)), None)
        if home is None:
            continue
        files = [home / one for one in file_names if (home / one).is_file()]
        default = given or _databases_dir(home, folder, database_names)
        splits.append(ArchiveSplit(name=name, files=tuple(_archive_file(path, default, given) for path in files)))
    if not splits:
        expected = ", ".join(one for names, _ in SPLITS_OF_LAYOUT[found].values() for one in names)
        raise UserError(f"{folder} holds no questions in the layout of {found}: it should hold one of {expected}.")
    return Archive(folder=folder, layout=found, splits=tuple(splits))


def _places(folder: Path) -> list[Path]:
    """The folder and those below it in which an archive's parts may lie, the nearest first."""
    places = level = [folder]
    for _ in range(MAX_DEPTH):
        level = [one for place in level for one in _folders_in(place)]
        places = [*places, *level]
    return places


def _folders_in(place: Path) -> list[Path]:
    try:
        entries = sorted(place.iterdir())
    except OSError as error:
        raise UserError(f"Can't look into {place} ({error.strerror}): check its permissions.") from None
    # Folders of databases hold a folder each; names such as __MACOSX come of unpacking.
    return [
        one for one in entries if one.is_dir() and "database" not in one.name and not one.name.startswith((".", "_"))
    ]


def _layout_of(places: list[Path], wanted: Layout | None) -> Layout | None:
    """`wanted` where anything speaks for it. Raises UserError when everything speaks for the other."""
    if wanted is not None and any((place / name).exists() for place in places for name in SIGNS[wanted]):
        return wanted
    found = _layout_by_signs(places)
    if wanted is not None and found is not None and found != wanted:
        raise UserError(f"{places[0]} is in the layout of {found}, not of {wanted}: use that one's command.")
    return found


def _layout_by_signs(places: list[Path]) -> Layout | None:
    for place in places:
        if any((place / name).exists() for name in SIGNS["spider"]):
            return "spider"
        if any((place / name).exists() for name in SIGNS["bird"]):
            return "bird"
        if (place / "dev.json").is_file():
            return "bird" if "SQL" in first_record(place / "dev.json") else "spider"
    return None


def _archive_file(path: Path, default: Path, given: Path | None) -> ArchiveFile:
    populated = path.parent / POPULATED_DATABASES
    uses_populated = given is None and path.name == "train_others.json" and populated.is_dir()
    return ArchiveFile(questions=path, databases_dir=populated if uses_populated else default)


def _databases_dir(home: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """Beside the questions, else in the archive's own folder, else in the `spider/` beside it."""
    beside = [home.parent / "spider"] if "database" in names else []
    for place in (home, folder, *beside):
        for name in names:
            if (place / name).is_dir():
                return place / name
    raise UserError(
        f"{home} has questions but no databases folder ({' or '.join(names)}): unpack the databases there, or name "
        "their folder."
    )
