"""Registers the layouts that `floe prepare` reads, and recognises a folder's layout."""

from __future__ import annotations

import difflib
from pathlib import Path

from floe.actors.layouts import (
    answers_by_id,
    benchmarks,
    conversations,
    defog,
    livesqlbench,
    perturbations,
    plain_layouts,
    schema_texts,
    spider2,
)
from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import places
from floe.configs.errors import UserError

# Layouts with unusual file names come first: `find` of the later ones accepts names that others use too.
LAYOUTS: tuple[Layout, ...] = (
    spider2.LAYOUT,
    livesqlbench.LAYOUT,
    perturbations.LAYOUT,
    answers_by_id.LAYOUT,
    conversations.LAYOUT,
    benchmarks.BIRD,
    benchmarks.SPIDER,
    plain_layouts.SYNSQL,
    plain_layouts.KAGGLEDBQA,
    schema_texts.LAYOUT,
    plain_layouts.HUB,
    defog.LAYOUT,
)
MAX_NAMES = 6


def layout_named(name: str) -> Layout:
    return next(one for one in LAYOUTS if one.name == name)


def find_files(
    folder: Path, databases_dir: Path | None, layout: Layout | None
) -> tuple[Layout, tuple[LayoutFile, ...]]:
    """Return the layout, recognised where none is given, and its files in the folder.

    Raises UserError for a folder without such a file; the message says what the folder has and which layout is nearest.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"There is no data folder {folder}: give the unpacked folder of a data set.")
    if databases_dir is not None and not databases_dir.expanduser().is_dir():
        raise UserError(f"There is no databases folder {databases_dir}: give one that holds <db_id>/<db_id>.sqlite.")
    given = None if databases_dir is None else databases_dir.expanduser().resolve()
    for one in _candidates(layout):
        if files := one.find(folder, given):
            return one, files
    if given is not None and (own := next((one for one in _candidates(layout) if _has_files(one, folder, None)), None)):
        raise UserError(
            f"{folder} is in the layout of {own.name} ({own.summary}) only where no folder of databases is given: "
            "leave out --databases."
        )
    if layout is not None:
        others = (one for one in LAYOUTS if one is not layout)
        other = next((one for one in others if _has_files(one, folder, folder) or _has_files(one, folder, None)), None)
        hint = f"it is in that of {other.name}: use floe prepare {other.name}" if other else _what_it_has(folder)
        raise UserError(f"{folder} is not in the layout of {layout.name} ({layout.summary}): {hint}.")
    raise UserError(
        f"{folder} is in no layout that floe knows: {_what_it_has(folder)}; floe prepare --list says what each holds, "
        "and floe prepare jsonl reads any file of questions."
    )


def _candidates(layout: Layout | None) -> tuple[Layout, ...]:
    return (layout,) if layout is not None else LAYOUTS


def _has_files(layout: Layout, folder: Path, databases_dir: Path | None) -> bool:
    try:
        return bool(layout.find(folder, databases_dir))
    except UserError:
        return False


def _what_it_has(folder: Path) -> str:
    """Return words for the first of its files, and the layout whose summary names one most like them."""
    names = [path.name for place in places(folder) for path in sorted(place.iterdir()) if path.is_file()]
    if not names:
        return "it holds no file"
    words = {word.strip(",()"): one.name for one in LAYOUTS for word in one.summary.split() if "." in word}
    alike = [(name, near) for name in names for near in difflib.get_close_matches(name, words, n=1, cutoff=0.6)]
    said = f"it holds {', '.join(names[:MAX_NAMES])}"
    if not alike:
        return said
    name, near = alike[0]
    return f"{said}; the nearest is {words[near]}, whose {near} is like its {name}"
