"""Spider, the sets derived from it, and BIRD as layouts: their dev file is the test split of `floe prepare`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from floe.actors.layouts import archives
from floe.actors.layouts.interface import Layout, LayoutFile, Split
from floe.actors.layouts.places import places

TEST_SPLITS = ("dev", "mini_dev")  # of these the first that exists
PARTS = (*TEST_SPLITS, "test")  # what an evaluation may ask
SUITE = (
    "its figures are usually test-suite accuracy: set reward.suite to the folder of the test-suite databases, "
    "with reward.semantics=spider"
)


def _find(name: archives.Layout, folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    if not archives.is_archive(folder, name):
        return ()
    archive = archives.find_archive(folder, databases_dir, name)
    train = archive.split("train")
    # Test questions take the place of dev ones only where nothing else is there.
    names = TEST_SPLITS if train is not None else PARTS
    test = next((split for one in names if (split := archive.split(one))), None)
    return (*_files("train", train), *_files("test", test))


def _asked(name: archives.Layout, folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    archive = archives.find_archive(folder, databases_dir, name)
    found = [split for part in PARTS if (split := archive.split(part)) is not None]
    return tuple(file for split in found for file in _files("test", split)[:1])


def _unused(name: archives.Layout, folder: Path) -> tuple[str, ...]:
    """Return a sentence for each questions file that no split reads."""
    archive = archives.find_archive(folder, folder, name)
    used = {one.questions for one in _find(name, folder, folder)}
    others = [one.questions for split in archive.splits for one in split.files if one.questions not in used]
    return tuple(f"{path} is not used: the test split is the dev file" for path in others)


def _files(split: Split, found: archives.ArchiveSplit | None) -> tuple[LayoutFile, ...]:
    files = () if found is None else found.files
    part = "" if found is None else found.name
    return tuple(
        LayoutFile(split=split, questions=one.questions, databases_dir=one.databases_dir, part=part) for one in files
    )


def _find_derived(patterns: tuple[str, ...], folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    """Return the questions file of a set that is derived from Spider's dev; next to Spider's own files it is left."""
    for home in places(folder):
        found = [path for pattern in patterns for path in sorted(home.glob(pattern)) if path.is_file()]
        if found and not any((home / name).is_file() for name in ("dev.json", "train_spider.json")):
            databases = databases_dir or archives.spider_databases(folder, home)
            return (LayoutFile(split="test", questions=found[0], databases_dir=databases, part="dev"),)
    return ()


SPIDER = Layout(
    name="spider",
    summary="Spider, Spider-Syn, CSpider: train_spider.json, train_others.json (or train.json), dev.json, database/; "
    "test.json (or test_data/dev.json), test_database/",
    find=partial(_find, "spider"),
    unused=partial(_unused, "spider"),
    asked=partial(_asked, "spider"),
    semantics="spider",
    advice=SUITE,
)
SPIDER_DK = Layout(
    name="spider-dk",
    summary="Spider-DK: Spider-DK.json, database/ with its own databases and Spider's",
    find=partial(_find_derived, ("Spider-DK.json", "Spider_DK.json", "spider_dk.json", "spider-dk.json")),
    semantics="spider",
    advice="it has three databases of its own and needs Spider's next to them: copy the folders of both into one "
    "database/",
)
SPIDER_REALISTIC = Layout(
    name="spider-realistic",
    summary="Spider-Realistic: spider-realistic.json, Spider's database/ in it or in a spider/ next to it",
    find=partial(_find_derived, ("spider-realistic.json", "spider_realistic.json", "Spider-Realistic.json")),
    semantics="spider",
    advice=SUITE,
)
BIRD = Layout(
    name="bird",
    summary="BIRD: train.json (or train-*.jsonl), dev.json (or dev_2*.json, mini_dev_sqlite*.json), train_databases/, "
    "dev_databases/",
    find=partial(_find, "bird"),
    unused=partial(_unused, "bird"),
    asked=partial(_asked, "bird"),
    semantics="bird",
)
