"""The questions of a run: the demo, the user's files, a prepared folder, or what a plug-in gives."""

from __future__ import annotations

from floe.actors.questions.question_sets import QuestionSets, as_they_are, load_question_sets
from floe.actors.sources.own_questions import own_sets
from floe.configs.plugins.kinds import DATA_SOURCES
from floe.configs.schema import RunConfig


def sets_of_run(config: RunConfig) -> QuestionSets:
    """Return the questions that the configuration asks for. Raises UserError and OSError."""
    home_dir = config.run.home_dir
    if DATA_SOURCES.is_plugin(config.data.source):
        return own_sets(config.data, home_dir, config.run.plugin_folder, as_they_are)
    return load_question_sets(config.data, home_dir / "demo", as_they_are)
