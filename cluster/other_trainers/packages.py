"""The packages that a reward needs: what is missing is said where the reward is made."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.scorer import Scorer


def refuse_what_cannot_run(databases: Path, section: RewardSection, plugin_folder: Path) -> None:
    """Make the design once, and import what the executors will, which run the same Python.

    A package that only they lacked would show as a fault of each completion. Raises UserError.
    """
    try:
        Scorer(databases, section, plugin_folder=plugin_folder).close()
        import_module(ExecutorSettings.program)
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise UserError(
            f"SqlReward with design={section.design!r} needs the package {package}, which this Python lacks: install "
            f"it in the trainer's environment, as with pip install {package}."
        ) from None
