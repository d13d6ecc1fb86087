"""`floe.train` and `floe.resume`: a run in the caller's own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floe.cluster.api.questions import Questions, questions_of, write_questions
from floe.cluster.api.runs import Run
from floe.cluster.api.settings import (
    QUICKSTART,
    Overrides,
    Preset,
    Reward,
    configuration,
    folder_texts,
    override_texts,
    reward_texts,
)
from floe.cluster.api.turn import heavy_imports, own_turn
from floe.cluster.databases.places import not_a_folder
from floe.cluster.messages import Question
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.run_folder.file_names import QUESTIONS_FILE
from floe.cluster.run_folder.layout import config_of_run, new_run_dir
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def train(
    questions: Questions | None = None,
    *,
    databases: str | Path | None = None,
    reward: Reward | None = None,
    reward_arguments: Mapping[str, Any] | None = None,
    preset: Preset = QUICKSTART,
    overrides: Overrides | None = None,
    run_dir: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Train a model in this process and return the finished run.

    `questions` are Question objects, a DataFrame, a questions file or a folder of `floe prepare`; without them the
    preset's are taken, in "quickstart" the demo's. `databases` is the folder of `<db_id>/<db_id>.sqlite`. `reward` is
    a design's name, `package.module:Name`, or a class or function that can be imported. `preset` names a configuration
    that floe ships or a file; `overrides` replace its values. Without `run_dir` a new folder is made.

    Any thread may call it, and one call at a time in a process. Raises UserError for what the user can fix, Interrupted
    when Ctrl-C has ended it with the steps so far saved; after any failure no process is left, and `floe.resume` goes
    on from the last checkpoint.
    """
    given, data = _data(questions, databases)
    texts = [*folder_texts(reward), *override_texts(overrides), *reward_texts(reward, reward_arguments), *data]
    with own_turn():
        config = configuration(preset, texts)
        _refuse_retries(config)
        check_plugins(config)
        folder = new_run_dir(config, None if run_dir is None else Path(run_dir))
        if given:
            config = _with_questions(config, given, folder)
        with heavy_imports():
            from floe.cluster.api.shown import shown_progress
            from floe.cluster.operations.train import trained
        with shown_progress(progress, config.run.known_num_steps or 0) as shown:
            trained(config, folder, shown)
    return Run(folder)


def resume(run_dir: str | Path, *, overrides: Overrides | None = None, progress: bool = True) -> Run:
    """Continue a run from its last checkpoint, whether Python or `floe train` began it, and return it.

    Raises UserError when the overrides would make it another run, otherwise as `train` does.
    """
    folder = Path(run_dir).expanduser().resolve()
    with own_turn():
        config = config_of_run(folder, override_texts(overrides))
        _refuse_retries(config)
        with heavy_imports():
            from floe.cluster.api.shown import shown_progress
            from floe.cluster.operations.train import resumed
        with shown_progress(progress, config.run.known_num_steps or 0) as shown:
            resumed(config, folder, shown)
    return Run(folder)


def _data(questions: Questions | None, databases: str | Path | None) -> tuple[list[Question], list[str]]:
    """Return the questions that were given as objects, and the overrides that name the data."""
    if questions is None:
        if databases is not None:
            raise UserError("databases is given without questions: give both, or neither for the preset's data.")
        return [], []
    path = Path(questions).expanduser().absolute() if isinstance(questions, str | Path) else None
    if path is not None and path.is_dir():
        return [], ["data.source=prepared", f"data.prepared={path}"]
    if databases is None:
        raise UserError("questions are given without databases: give the folder of <db_id>/<db_id>.sqlite.")
    where = Path(databases).expanduser().absolute()
    if where.is_file():
        raise UserError(not_a_folder(where))
    given = questions_of(questions) if path is None else []
    placed = path or Path(QUESTIONS_FILE).absolute()  # which `_with_questions` replaces
    return given, ["data.source=files", f"data.questions={placed}", f"data.databases={where}"]


def _with_questions(config: RunConfig, questions: list[Question], folder: Path) -> RunConfig:
    """Write the questions into the run's folder, where a resume finds them too."""
    path = folder / QUESTIONS_FILE
    write_questions(path, questions)
    return config.model_copy(update={"data": config.data.model_copy(update={"questions": path})})


def _refuse_retries(config: RunConfig) -> None:
    if config.run.retries:
        raise UserError(
            f"run.retries is {config.run.retries}, which the floe command alone can do: set run.retries to 0 in "
            "overrides, and call floe.resume(run_dir) after a failure."
        )
