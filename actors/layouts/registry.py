"""Registers the layouts that `floe prepare` and `floe evaluate --data` read, and recognises a folder's layout."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
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
    sciencebenchmark,
    spider2,
)
from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import places
from floe.actors.questions.prepared_folder import MANIFEST_FILE, VERDICTS_FILE
from floe.configs.errors import UserError

# Layouts with unusual file names come first: `find` of the later ones accepts names that others use too.
LAYOUTS: tuple[Layout, ...] = (
    spider2.LAYOUT,
    livesqlbench.LAYOUT,
    perturbations.LAYOUT,
    answers_by_id.LAYOUT,
    sciencebenchmark.LAYOUT,
    conversations.LAYOUT,
    benchmarks.SPIDER_DK,
    benchmarks.SPIDER_REALISTIC,
    benchmarks.BIRD,
    benchmarks.SPIDER,
    plain_layouts.SYNSQL,
    plain_layouts.KAGGLEDBQA,
    schema_texts.LAYOUT,
    plain_layouts.HUB,
    defog.LAYOUT,
)
MAX_NAMES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """What an evaluation asks of a data set's folder: the files of one part, at least one, over one folder."""

    layout: Layout
    part: str  # `dev`, `mini_dev`, `test`, `valid` or `all`
    questions: tuple[Path, ...]
    databases_dir: Path


def evaluation_set(folder: Path, part: str | None = None, databases_dir: Path | None = None) -> EvaluationSet:
    """Return the part of that name of the data set in `folder`, without a name the usual one: dev before test.

    Raises UserError for a folder in no layout, without questions to ask or without this part.
    """
    folder = folder.expanduser().resolve()
    if (folder / MANIFEST_FILE).is_file() and (folder / VERDICTS_FILE).is_file():
        raise UserError(
            f"{folder} was written by floe prepare: leave out --data and give data.source=prepared "
            f"data.prepared={folder}."
        )
    layout, _ = find_files(folder, databases_dir, None)
    given = None if databases_dir is None else databases_dir.expanduser().resolve()
    by_part: dict[str, list[LayoutFile]] = {}
    for file in layout.files_to_ask(folder, given):
        by_part.setdefault(file.name, []).append(file)
    if not by_part:
        raise UserError(f"{folder} has only training questions: give a folder with dev questions, or use floe train.")
    name = next(iter(by_part)) if part is None else part
    if name not in by_part:
        raise UserError(f"{folder} has no part '{name}': choose one of {', '.join(by_part)} for --part.")
    if layout.schema_texts is not None:
        raise UserError(
            f"{folder} has CREATE TABLE texts in the place of databases: make these with floe prepare, and evaluate "
            "on the folder that it writes, with data.source=prepared."
        )
    places_of = list(dict.fromkeys(one.databases_dir for one in by_part[name]))
    if len(places_of) > 1:
        listed = ", ".join(str(one.questions.parent) for one in by_part[name][:MAX_NAMES])
        raise UserError(f"{folder} holds several sets with databases of their own: give --data one of {listed}.")
    questions = tuple(one.questions for one in by_part[name])
    return EvaluationSet(layout=layout, part=name, questions=questions, databases_dir=places_of[0])


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
