"""What sources of questions and kinds of databases give (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedQuestions:
    """A source's questions and the folder of their databases, `<db_id>/<db_id>.sqlite`.

    Either `questions`, which floe splits by data.held_out_share, or all of `train`, `tune` (early stopping, the choice
    of a recipe) and `test` (measured alone). A question is a `floe.Question`, or a mapping with `db_id`, `question` and
    `query` (text, or a list of accepted queries), and optionally `question_id` (otherwise its place), `evidence` and
    `difficulty`. Ids differ within a source.
    """

    databases: Path
    questions: Sequence[Any] = ()
    train: Sequence[Any] = ()
    tune: Sequence[Any] = ()
    test: Sequence[Any] = ()


class QuestionSource(Protocol):
    """Gives the questions of a run. Called in the driver alone, at each start, and by reports on the run."""

    def load(self, folder: Path) -> LoadedQuestions:
        """Return the questions, the same ones in the same order each time, or a resume is refused.

        `folder` below run.home is the source's own, for what it wants to keep; it exists and can be written. Whatever
        this raises ends the command in a sentence with the place; a `floe.UserError` is shown as it is.
        """
        ...


class DatabaseKind(Protocol):
    """Makes SQLite files of what a user has. Called in the driver alone, before anything else starts.

    What is built is kept below run.home by a digest of the source's content, of this plug-in's code and of its
    arguments, so that each database is built once. Whatever this raises ends the command in a sentence with the place;
    a `floe.UserError` is shown as it is.
    """

    def find(self, folder: Path, db_id: str) -> Path | None:
        """Return the file or folder in `folder` that holds the database, None where there is none.

        All that the database is made of lies there: its content decides whether the database is built again.
        """
        ...

    def build(self, source: Path, target: Path) -> None:
        """Write the database of `source` to the SQLite file `target`, which does not exist yet.

        It has at least one table, and is closed when this returns.
        """
        ...
