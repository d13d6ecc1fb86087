"""Makes every plug-in that a configuration names, so that a wrong one is refused before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floe.configs.plugins.kinds import FAMILIES, PROMPT_STYLES, REWARDS
from floe.configs.plugins.making import made, source_files
from floe.configs.schema import RunConfig


def check_plugins(config: RunConfig) -> list[str]:
    """Return a line for each plug-in, with the file that it is in. Raises ConfigError for a wrong one."""
    folder = config.run.plugin_folder
    for one in config.plugins:
        if one.kind is REWARDS:
            from floe.reward_service.designs.plugin import plugin_design

            plugin_design(one.name, one.arguments, folder)
        elif one.kind is PROMPT_STYLES:
            from floe.cluster.plugins.style_check import check_style

            check_style(config.prompt, folder)
        elif one.kind is FAMILIES:
            from floe.learner.family_plugin import family_of

            family_of(config.model, folder)
        else:
            made(one.kind, one.name, one.arguments, folder)
    return [
        f"{one.kind.key} {one.name} from {_place(source_files(one.kind, one.name, folder))}{_with(one.arguments)}"
        for one in config.plugins
    ]


def _with(arguments: Mapping[str, Any]) -> str:
    """Return the names of the arguments, which may hold what no log should show."""
    return f", with {', '.join(arguments)} given" if arguments else ""


def _place(files: tuple[Path, ...]) -> str:
    if not files:
        return "no file"
    return os.path.commonpath(files)
