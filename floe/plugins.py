"""What plug-ins of floe keep to: import from here, and name the plug-in in the configuration.

A reward design (`reward.design`, entry points `floe.rewards`) is a `RewardDesign`. A prompt style (`prompt.style`,
`floe.prompt_styles`) is a `PromptStyle`, which is given `TableSchema`s. A source of questions (`data.source`,
`floe.data_sources`) is a `QuestionSource` that returns `LoadedQuestions`. A kind of database
(`data.database_kind`, `floe.database_kinds`) is a `DatabaseKind`. A model family (`model.family`,
`floe.families`) derives from `ModelFamily`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from floe.cluster.messages import Outcome
from floe.reward_service.designs.arctic import execution_reward
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward, RewardDesign
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable

if TYPE_CHECKING:
    from floe.actors.databases.schemas import Column as Column
    from floe.actors.databases.schemas import ForeignKey as ForeignKey
    from floe.actors.databases.schemas import TableSchema as TableSchema
    from floe.actors.prompting.prompt_style import PromptStyle as PromptStyle
    from floe.actors.prompting.prompts import created_tables as created_tables
    from floe.actors.prompting.prompts import named_tables as named_tables
    from floe.actors.sources.interface import DatabaseKind as DatabaseKind
    from floe.actors.sources.interface import LoadedQuestions as LoadedQuestions
    from floe.actors.sources.interface import QuestionSource as QuestionSource
    from floe.learner.families.attention_rules import AttentionRules as AttentionRules
    from floe.learner.families.family import ModelFamily as ModelFamily

# Imported when asked for, since a reward worker needs none of them.
_HOMES = {
    "Column": "floe.actors.databases.schemas",
    "DatabaseKind": "floe.actors.sources.interface",
    "ForeignKey": "floe.actors.databases.schemas",
    "AttentionRules": "floe.learner.families.attention_rules",
    "LoadedQuestions": "floe.actors.sources.interface",
    "ModelFamily": "floe.learner.families.family",
    "QuestionSource": "floe.actors.sources.interface",
    "PromptStyle": "floe.actors.prompting.prompt_style",
    "TableSchema": "floe.actors.databases.schemas",
    "created_tables": "floe.actors.prompting.prompts",
    "named_tables": "floe.actors.prompting.prompts",
}

__all__ = [
    "AttentionRules",
    "Column",
    "DatabaseKind",
    "ForeignKey",
    "GoldUnusable",
    "GroupUnscorable",
    "JudgedCandidate",
    "JudgedGroup",
    "LoadedQuestions",
    "ModelFamily",
    "Outcome",
    "PromptStyle",
    "QuestionSource",
    "Reward",
    "RewardDesign",
    "TableSchema",
    "created_tables",
    "execution_reward",
    "named_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'floe.plugins' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
