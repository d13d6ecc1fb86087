"""The layout of a data set: the files that hold questions, the folders of their databases, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from floe.actors.layouts.places import databases_folder, files_named
from floe.actors.records.record_files import Record, read_records

Split = Literal["train", "test", "all"]  # `all` is divided later
Semantics = Literal["bird", "spider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutFile:
    split: Split
    questions: Path
    databases_dir: Path
    part: str = ""  # its name in the release (`dev`, `mini_dev`, `valid`), where that is not the split's

    @property
    def name(self) -> str:
        return self.part or self.split


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A data set's layout: `find` returns nothing for another layout's folder. Both callables may raise UserError."""

    name: str  # name of the command
    summary: str  # for `floe prepare --list`
    find: Callable[[Path, Path | None], tuple[LayoutFile, ...]]
    records: Callable[[Path], list[Record]] = read_records
    schema_texts: Callable[[Path], Mapping[str, str]] | None = None  # CREATE TABLE text by database id, to be made
    unused: Callable[[Path], tuple[str, ...]] = (
        lambda folder: ()
    )  # a sentence for each questions file that no split has
    # Files that an evaluation may ask, the usual ones first; otherwise those that `find` returns and that don't train.
    asked: Callable[[Path, Path | None], tuple[LayoutFile, ...]] | None = None
    semantics: Semantics | None = None  # `reward.semantics` of its published evaluation
    advice: str = ""  # a sentence for whoever evaluates on it

    def files_to_ask(self, folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
        """Return the files that an evaluation may ask, the usual ones first. Raises UserError."""
        if self.asked is not None:
            return self.asked(folder, databases_dir)
        return tuple(one for one in self.find(folder, databases_dir) if one.split != "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """Finds the files of each split by patterns, in the folder or up to two levels below it."""

    splits: Sequence[tuple[Split, Sequence[str]]]  # a split's patterns; the first that matches a file counts
    databases: Sequence[str] = ("databases", "database")
    is_ours: Callable[[Path], bool] = lambda path: True  # a look into a file whose name other layouts use too

    def __call__(self, folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
        found: list[LayoutFile] = []
        for split, patterns in self.splits:
            for pattern in patterns:
                files = [path for path in files_named(folder, pattern) if self.is_ours(path)]
                found += [
                    LayoutFile(
                        split=split,
                        questions=path,
                        databases_dir=databases_dir or databases_folder(folder, path.parent, self.databases),
                    )
                    for path in files
                ]
                if files:
                    break
        return tuple(found)
