"""The folder of databases that a call names, as SQLite files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from floe.cluster.messages import Question
from floe.configs.schema import RunConfig


def sqlite_folder(config: RunConfig, databases: str | Path, asked: Sequence[Question]) -> Path:
    """Return the folder with a database for each question, built where `data.database_kind` is another than SQLite's.

    Raises UserError for a missing database.
    """
    from floe.actors.questions.question_sets import as_they_are
    from floe.actors.sources.run_sets import database_folder
    from floe.cluster.operations.score import check_databases

    folder = Path(databases).expanduser().absolute()
    find = database_folder(config.data, config.run.home_dir, config.run.plugin_folder)
    if find is as_they_are:
        check_databases(folder, asked)
        return folder
    return find(folder, sorted({one.database_id for one in asked}), "the questions")
