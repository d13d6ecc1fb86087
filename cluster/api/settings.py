"""The configuration that a call asks for: a preset, with overrides and the call's own arguments on top."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from floe.cluster.environment import environment_overrides
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.files.yaml_text import flow_text
from floe.configs.plugins.references import reference_of
from floe.configs.schema import RunConfig

QUICKSTART = "quickstart"

# {"run.num_steps": 5}, {"run": {"num_steps": 5}} or ["run.num_steps=5"].
Overrides = Mapping[str, Any] | Sequence[str]
Preset = str | Path | None  # name of a shipped configuration, path of one, None for the defaults
Reward = str | type | Callable[..., Any]


def configuration(preset: Preset, texts: Sequence[str]) -> RunConfig:
    """Return the preset with FLOE_HOME and the texts on top. Raises ConfigError for the first thing that is wrong."""
    return load_config(config_file(preset), [*environment_overrides(), *texts])


def config_file(preset: Preset) -> str | None:
    """Return the name or path, with the home folder in place of `~`; None for the defaults."""
    return None if preset is None else os.path.expanduser(preset)


def override_texts(overrides: Overrides | None) -> list[str]:
    """Return the overrides as the command line takes them. Raises UserError for what has none of the forms."""
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        return [text for key, value in overrides.items() for text in _texts(str(key), value)]
    if isinstance(overrides, str) or not all(isinstance(one, str) for one in overrides):
        raise UserError(
            f'overrides is {overrides!r}: give a mapping as {{"run.num_steps": 5}}, or a list as ["run.num_steps=5"].'
        )
    return list(overrides)


def reward_texts(reward: Reward | None, arguments: Mapping[str, Any] | None) -> list[str]:
    """Return the overrides of `reward.design` and `reward.arguments`.

    Raises UserError for a class or function that other processes can't import.
    """
    texts = [] if reward is None else [f"reward.design={_yaml('reward', reference_of(reward))}"]
    return texts + ([] if arguments is None else [f"reward.arguments={_yaml('reward_arguments', dict(arguments))}"])


def folder_texts(reward: Reward | None) -> list[str]:
    """Return the override of `run.plugin_folder` for a class or function of a module that is not installed.

    Workers then find it wherever it lies, next to a script for example.
    """
    if reward is None or isinstance(reward, str):
        return []
    top = sys.modules.get((getattr(reward, "__module__", None) or "").partition(".")[0])
    file = getattr(top, "__file__", None)
    places = [Path(file).absolute()] if file else [Path(one) / "__init__.py" for one in getattr(top, "__path__", ())]
    if not places:  # built in
        return []
    path = places[0]
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")}
    return [] if folder in installed else [f"run.plugin_folder={_yaml('run.plugin_folder', folder)}"]


def _texts(key: str, value: Any) -> list[str]:
    """Return one override, or those of a whole section's mapping."""
    if isinstance(value, Mapping) and "." not in key:
        return [f"{key}.{field}={_yaml(f'{key}.{field}', one)}" for field, one in value.items()]
    return [f"{key}={_yaml(key, value)}"]


def _yaml(key: str, value: Any) -> str:
    try:
        return flow_text(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as fault:
        raise UserError(
            f"The value of {key} holds what a configuration can't ({fault}): give a number, a text, or a list or "
            "mapping of these."
        ) from None


def _plain(value: Any) -> Any:
    """Return a path as text, and NumPy's numbers and arrays as Python's own. Raises TypeError."""
    if isinstance(value, os.PathLike):  # a run stands for its folder
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"of type {type(value).__name__}")
