"""floe: post-trains language models to write SQL by running the SQL.

From Python: `train`, `resume`, `score`, `evaluate` and `ask`, with `Question` and `Run`; `SqlReward` is the reward for
another trainer. What plug-ins keep to is in `floe.plugins`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floe.cluster.api.asking import Answer as Answer
    from floe.cluster.api.asking import ask as ask
    from floe.cluster.api.evaluating import Evaluation as Evaluation
    from floe.cluster.api.evaluating import evaluate as evaluate
    from floe.cluster.api.questions import Question as Question
    from floe.cluster.api.runs import Run as Run
    from floe.cluster.api.scoring import Score as Score
    from floe.cluster.api.scoring import score as score
    from floe.cluster.api.training import resume as resume
    from floe.cluster.api.training import train as train
    from floe.cluster.other_trainers.sql_reward import SqlReward as SqlReward
    from floe.configs.errors import ConfigError as ConfigError
    from floe.configs.errors import Interrupted as Interrupted
    from floe.configs.errors import UserError as UserError

# What the package offers, by the module that defines it: imported when it is asked for, since some take seconds.
_HOMES = {
    "Answer": "floe.cluster.api.asking",
    "ConfigError": "floe.configs.errors",
    "Evaluation": "floe.cluster.api.evaluating",
    "Interrupted": "floe.configs.errors",
    "Question": "floe.cluster.api.questions",
    "Run": "floe.cluster.api.runs",
    "Score": "floe.cluster.api.scoring",
    "SqlReward": "floe.cluster.other_trainers.sql_reward",
    "UserError": "floe.configs.errors",
    "ask": "floe.cluster.api.asking",
    "evaluate": "floe.cluster.api.evaluating",
    "resume": "floe.cluster.api.training",
    "score": "floe.cluster.api.scoring",
    "train": "floe.cluster.api.training",
}
__all__ = [
    "Answer",
    "ConfigError",
    "Evaluation",
    "Interrupted",
    "Question",
    "Run",
    "Score",
    "SqlReward",
    "UserError",
    "ask",
    "evaluate",
    "resume",
    "score",
    "train",
]

if not TYPE_CHECKING:  # a type checker would take any name for one that is offered

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'floe' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
