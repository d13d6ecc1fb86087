"""Recognises the folders that people have of Spider and BIRD: which questions, over which databases folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from floe.actors.layouts.places import databases_folder, places
from floe.actors.questions.questions import first_record
from floe.configs.errors import UserError

Layout = Literal["spider", "bird"]

SPIDER_DATABASES = ("database", "databases")
TEST_DATABASES = ("test_database", "test_databases", *SPIDER_DATABASES)
TEST_DATA = "test_data"  # the test questions of Spider's release, which have the dev questions' name there
# The patterns of each split's question files, and the names of its databases folder. Of several tuples of patterns the
# first that matches anything counts, with every file that it matches.
Splits = dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]]
SPIDER_SPLITS: Splits = {
    "train": ((("train_spider.json", "train_others.json"), ("train.json",)), SPIDER_DATABASES),  # the second: CSpider
    "dev": ((("dev.json",),), SPIDER_DATABASES),
    "test": ((("test.json",), (f"{TEST_DATA}/dev.json",)), TEST_DATABASES),
}
BIRD_SPLITS: Splits = {
    "train": ((("train.json",), ("train-*.json*",)), ("train_databases", "databases")),  # the second: the filtered set
    "dev": ((("dev.json",), ("dev_2*.json",)), ("dev_databases", "databases")),
    "mini_dev": ((("mini_dev_sqlite.json",), ("mini_dev_sqlite-*.json*",)), ("dev_databases", "databases")),
}
SPLITS_OF_LAYOUT: dict[Layout, Splits] = {"spider": SPIDER_SPLITS, "bird": BIRD_SPLITS}
# Files that only one of the two has; a folder with `dev.json` alone is recognised by the field of its golds.
SIGNS = {
    "spider": ("train_spider.json", "train_others.json", "tables.json", "test_tables.json"),
    "bird": (
        "train.json",
        "mini_dev_sqlite*.json",
        "dev_tables.json",
        "dev_2*.json",
        "dev_databases",
        "train_databases",
        "train_column_meaning.json",
    ),
}
# The six databases of `train_others.json` are empty in the release; a separate folder has contents for them.
POPULATED_DATABASES = "databases_populated"


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
        """The databases folder of the first file."""
        return self.files[0].databases_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    folder: Path
    layout: Layout
    splits: tuple[ArchiveSplit, ...]

    def split(self, name: str) -> ArchiveSplit | None:
        return next((split for split in self.splits if split.name == name), None)


def find_archive(folder: Path, databases_dir: Path | None = None, layout: Layout | None = None) -> Archive:
    """Return the splits that `folder` holds, in itself or, as BIRD's parts are unpacked, in folders below it.

    `databases_dir` replaces the folder that is looked for; a set derived from Spider may lie next to `spider/` and use
    its databases. Without `layout` the files decide. Raises UserError for a folder that is neither.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"There is no data folder {folder}: give the unpacked folder of Spider or BIRD.")
    if databases_dir is not None and not databases_dir.expanduser().is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    where = places(folder)
    found = _layout_of(where, layout)
    if found is None:
        raise UserError(
            f"{folder} is in neither the layout of Spider nor that of BIRD: it should hold train_spider.json or "
            "dev.json next to database/, or dev.json next to dev_databases/."
        )
    given = None if databases_dir is None else databases_dir.expanduser().resolve()
    if _is_test_data(folder):
        default = given or databases_folder(folder.parent, folder, TEST_DATABASES)
        file = ArchiveFile(questions=folder / "dev.json", databases_dir=default)
        return Archive(folder=folder, layout=found, splits=(ArchiveSplit(name="test", files=(file,)),))
    splits = []
    for name, (alternatives, database_names) in SPLITS_OF_LAYOUT[found].items():
        files = _question_files(where, alternatives)
        if not files:
            continue
        default = given or _databases_dir(files[0].parent, folder, database_names)
        splits.append(ArchiveSplit(name=name, files=tuple(_archive_file(path, default, given) for path in files)))
    if not splits:
        expected = ", ".join(one for names, _ in SPLITS_OF_LAYOUT[found].values() for one in names[0])
        raise UserError(f"{folder} holds no questions in the layout of {found}: it should hold one of {expected}.")
    return Archive(folder=folder, layout=found, splits=tuple(splits))


def is_archive(folder: Path, layout: Layout) -> bool:
    """Return whether anything in the folder indicates the layout, and nothing nearer indicates the other one."""
    return _layout_by_signs(places(folder)) == layout


def spider_databases(folder: Path, home: Path) -> Path:
    """Return the databases of a set that is derived from Spider: its own, or those of the `spider/` next to it.

    Raises UserError when there are none.
    """
    return _databases_dir(home, folder, SPIDER_DATABASES)


def _is_test_data(folder: Path) -> bool:
    is_there = folder.name == TEST_DATA and (folder / "dev.json").is_file()
    return is_there and any((folder.parent / name).is_dir() for name in ("test_database", "test_databases"))


def _question_files(where: list[Path], alternatives: tuple[tuple[str, ...], ...]) -> list[Path]:
    for patterns in alternatives:
        for place in (one for one in where if one.name != TEST_DATA):
            if files := [path for pattern in patterns for path in sorted(place.glob(pattern)) if path.is_file()]:
                return files
    return []


def _layout_of(where: list[Path], wanted: Layout | None) -> Layout | None:
    """Return `wanted` where anything indicates it. Raises UserError when everything indicates the other layout."""
    if wanted is not None and any(_has_sign(place, wanted) for place in where):
        return wanted
    found = _layout_by_signs(where)
    if wanted is not None and found is not None and found != wanted:
        raise UserError(f"{where[0]} is in the layout of {found}, not of {wanted}: use that one's command.")
    return found


def _layout_by_signs(where: list[Path]) -> Layout | None:
    for place in where:
        if _has_sign(place, "spider"):
            return "spider"
        if _has_sign(place, "bird"):
            return "bird"
        if (place / "dev.json").is_file():
            return "bird" if "SQL" in first_record(place / "dev.json") else "spider"
    return None


def _has_sign(place: Path, layout: Layout) -> bool:
    return any(True for pattern in SIGNS[layout] for _ in place.glob(pattern))


def _archive_file(path: Path, default: Path, given: Path | None) -> ArchiveFile:
    populated = path.parent / POPULATED_DATABASES
    uses_populated = given is None and path.name == "train_others.json" and populated.is_dir()
    return ArchiveFile(questions=path, databases_dir=populated if uses_populated else default)


def _databases_dir(home: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """Return the folder next to the questions or above them, or in the `spider/` next to the archive."""
    beside = folder.parent / "spider"
    if (
        "database" in names
        and beside.is_dir()
        and not any((place / one).is_dir() for place in (home, folder) for one in names)
    ):
        return databases_folder(beside, beside, names)
    return databases_folder(folder, home, names)
