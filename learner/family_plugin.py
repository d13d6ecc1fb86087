"""The model family that a configuration names: floe's own answers, or a plug-in's."""

from __future__ import annotations

from pathlib import Path

from floe.configs.errors import ConfigError
from floe.configs.plugins.kinds import FAMILIES
from floe.configs.plugins.making import made
from floe.configs.schema import ModelSection
from floe.learner.families.family import ModelFamily


def family_of(model: ModelSection, plugin_folder: Path | None) -> ModelFamily:
    """Return the family of the configuration. Raises ConfigError for a plug-in that is none.

    `plugin_folder` is where its module is looked for when it is not installed.
    """
    if not FAMILIES.is_plugin(model.family):
        return ModelFamily()
    found = made(FAMILIES, model.family, model.family_arguments, plugin_folder)
    if not isinstance(found, ModelFamily):
        raise ConfigError(
            f"{FAMILIES.key} is {model.family!r}, whose class {type(found).__name__} is not derived from "
            "floe.plugins.ModelFamily: derive it, and override what is otherwise."
        )
    return found
