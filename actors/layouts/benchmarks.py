"""Spider and BIRD as layouts of `floe prepare`: their dev file is the test split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from floe.actors.layouts import archives
from floe.actors.layouts.interface import Layout, LayoutFile, Split

TEST_SPLITS = ("dev", "mini_dev")  # of these the first that exists


def _find(name: archives.Layout, folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    if not archives.is_archive(folder, name):
        return ()
    archive = archives.find_archive(folder, databases_dir, name)
    test = next((split for one in TEST_SPLITS if (split := archive.split(one))), None)
    return (*_files("train", archive.split("train")), *_files("test", test))


def _unused(name: archives.Layout, folder: Path) -> tuple[str, ...]:
    """Return a sentence for each questions file that no split reads."""
    archive = archives.find_archive(folder, folder, name)
    used = {one.questions for one in _find(name, folder, folder)}
    others = [one.questions for split in archive.splits for one in split.files if one.questions not in used]
    return tuple(f"{path} is not used: the test split is the dev file" for path in others)


def _files(split: Split, found: archives.ArchiveSplit | None) -> tuple[LayoutFile, ...]:
    files = () if found is None else found.files
    return tuple(LayoutFile(split=split, questions=one.questions, databases_dir=one.databases_dir) for one in files)


SPIDER = Layout(
    name="spider",
    summary="Spider, Spider-Syn, CSpider: train_spider.json, train_others.json (or train.json), dev.json, database/",
    find=partial(_find, "spider"),
    unused=partial(_unused, "spider"),
)
BIRD = Layout(
    name="bird",
    summary="BIRD: train.json (or train-*.jsonl), dev.json (or dev_2*.json, mini_dev_sqlite*.json), train_databases/, "
    "dev_databases/",
    find=partial(_find, "bird"),
    unused=partial(_unused, "bird"),
)
