"""The questions and databases that a run worked on, as far as they are still where its configuration says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from floe.actors.databases.contained_databases import read_schema
from floe.actors.prompting.prompts import created_tables
from floe.actors.questions.question_sets import SPLITS
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.databases.places import database_path
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuestions:
    """Questions by id and database. `fault` says in one sentence why there are none."""

    by_name: Mapping[tuple[str, str], Question]
    databases_dir: Path | None
    fault: str = ""

    def find(self, question_id: str, database_id: str, text: str) -> Question | None:
        """Return the question; None too where another question has that id by now."""
        found = self.by_name.get((question_id, database_id))
        return found if found is not None and found.text == text else None


def questions_of_run(config: RunConfig | None) -> RunQuestions:
    """Return the run's questions; those of a demo run are made again where they are gone."""
    if config is None:
        return RunQuestions(by_name={}, databases_dir=None, fault="The run's configuration can't be read.")
    try:
        sets = sets_of_run(config)
    except (UserError, OSError) as fault:
        return RunQuestions(by_name={}, databases_dir=None, fault=str(fault))
    questions = [one for split in SPLITS for one in sets.split(split)]
    by_name = {(one.question_id, one.database_id): one for one in questions}
    return RunQuestions(by_name=by_name, databases_dir=sets.databases_dir)


def schemas_of(databases_dir: Path, database_ids: Iterable[str]) -> dict[str, str]:
    """Return each database's CREATE TABLE statements; those that can't be read are left out."""
    schemas = {}
    for database_id in dict.fromkeys(database_ids):
        try:
            tables = read_schema(database_path(databases_dir, database_id), num_examples=0)
        except UserError:
            continue
        schemas[database_id] = created_tables(tables)
    return schemas
