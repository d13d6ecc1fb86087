"""floe: post-trains language models to write SQL by running the SQL.

From Python: `train`, `score`, `evaluate` and `ask`, with `Question`; `SqlReward` is the reward for another trainer.
What plug-ins keep to is in `floe.plugins`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floe.cluster.other_trainers.sql_reward import SqlReward as SqlReward
    from floe.configs.errors import ConfigError as ConfigError
    from floe.configs.errors import UserError as UserError

# What the package offers, by the module that defines it: imported when it is asked for, since some take seconds.
_HOMES = {
    "ConfigError": "floe.configs.errors",
    "SqlReward": "floe.cluster.other_trainers.sql_reward",
    "UserError": "floe.configs.errors",
}
__all__ = ["ConfigError", "SqlReward", "UserError"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'floe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
