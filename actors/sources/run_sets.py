"""The questions of a run: the demo, the user's files, prepared folders, or what a plug-in gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from floe.actors.questions.question_sets import DatabaseFolder, QuestionSets, as_they_are, load_question_sets
from floe.actors.sources.built_databases import BuiltDatabases
from floe.actors.sources.mixture import mixed_sets
from floe.actors.sources.own_questions import own_sets
from floe.configs.errors import UserError
from floe.configs.plugins.kinds import DATA_SOURCES, DATABASE_KINDS
from floe.configs.schema import DataSection, RunConfig

SQLITE, MIXED = "sqlite", "mixed"

Note = Callable[[str], None]


def _not_noted(line: str) -> None:
    pass


def sets_of_run(config: RunConfig, note: Note = _not_noted) -> QuestionSets:
    """Return the questions that the configuration asks for; `note` gets progress where databases are built.

    Raises UserError and OSError.
    """
    data, home_dir, plugin_folder = config.data, config.run.home_dir, config.run.plugin_folder
    if data.source in ("demo", "prepared", MIXED) and data.database_kind != SQLITE:
        raise UserError(
            f"{DATABASE_KINDS.key} is {data.database_kind!r}, but the databases of data.source {data.source!r} are "
            "SQLite files already: leave it out, or set data.source=files."
        )
    if data.source == MIXED:
        return mixed_sets(config, note)
    databases = database_folder(data, home_dir, plugin_folder, note)
    if DATA_SOURCES.is_plugin(data.source):
        return own_sets(data, home_dir, plugin_folder, databases)
    return load_question_sets(data, home_dir / "demo", databases)


def database_folder(
    data: DataSection, home_dir: Path, plugin_folder: Path | None, note: Note = _not_noted
) -> DatabaseFolder:
    """Return what finds or builds the databases of the section's kind. Raises ConfigError."""
    if data.database_kind == SQLITE:
        return as_they_are
    return BuiltDatabases(data, home_dir, plugin_folder, note).folder
