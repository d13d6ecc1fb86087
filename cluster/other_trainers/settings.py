"""The reward section that `SqlReward` is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from floe.cluster.databases.places import not_a_folder
from floe.cluster.preparation.clock import decided_reward
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.complaints import fields_of, unknown_key, wrong_value
from floe.configs.plugins.references import reference_of
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import RewardSection

ORIGIN = "the arguments of SqlReward"


def reward_section(
    design: str | type | Callable[..., Any], arguments: Mapping[str, Any] | None, values: Mapping[str, Any]
) -> RewardSection:
    """Return the section `reward` of a configuration, with a clock and absolute paths. Raises ConfigError."""
    given = {**values, "design": reference_of(design)} | ({"arguments": dict(arguments)} if arguments else {})
    for field in given:
        if field not in fields_of("reward"):
            raise ConfigError(unknown_key(f"reward.{field}", ORIGIN))
    try:
        section = RunConfig.model_validate({"reward": given}).reward
    except ValidationError as error:
        raise ConfigError(wrong_value(error, {}, ORIGIN)) from None
    paths = {name: value.expanduser().resolve() for name, value in section if isinstance(value, Path)}
    return decided_reward(section.model_copy(update=paths))


def databases_folder(databases: str | Path) -> Path:
    """Return the absolute folder. Raises UserError where there is none."""
    folder = Path(databases).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(not_a_folder(folder))
    return folder
