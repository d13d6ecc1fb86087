"""The kinds of plug-ins: which key names one, what is built in, and the group of entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from floe.configs.plugins.references import FORM, is_reference

OF_PROOF = "proof"  # the design of `make prove-24gb` alone
OF_RUN = "of a run"  # context of a validation


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginKind:
    """A kind of plug-in. A name that is built in is never a plug-in's."""

    key: str  # `section.field` that names one
    arguments_key: str
    group: str  # of entry points
    built_in: tuple[str, ...]
    what: str  # it is, for a sentence
    form: str  # what a plug-in gives, for a sentence
    needs: tuple[str, ...]  # attributes without which an object is none
    is_function: bool = False  # whether a function is the plug-in itself; otherwise it makes one from the arguments

    def is_plugin(self, name: str) -> bool:
        return name not in self.built_in

    def entry_points(self, name: str) -> list[EntryPoint]:
        """Return the entry points of this name, of which each installed package may have one."""
        return list(entry_points(group=self.group, name=name))

    def installed(self) -> list[str]:
        """Return the names that installed packages offer, sorted."""
        return sorted({one.name for one in entry_points(group=self.group)} - {*self.built_in})

    def refused_arguments(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Return why there can be no arguments, as a sentence without its end; None where there can, or are none."""
        if not arguments or self.is_plugin(name):
            return None
        first = next(iter(arguments))
        return (
            f"{self.arguments_key} has {first!r}, but {self.key} is {name!r}, which is built in and takes its "
            f"values from other keys: leave the arguments out, or name a plug-in as {FORM}"
        )

    def checked_name(self, name: str, info: ValidationInfo) -> str:
        """Return the name. Raises pydantic's error for one that is neither built in, nor installed, nor a reference.

        In the configuration of a run any name passes: its package may be gone by now, and much needs it no more.
        """
        if info.context == OF_RUN or name in self.built_in or is_reference(name) or self.entry_points(name):
            return name
        offered = [one for one in (*self.built_in, *self.installed()) if one != OF_PROOF]
        choices = " or ".join([", ".join(map(repr, offered)), FORM])
        raise PydanticCustomError("literal_error", "no such name", {"expected": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlugin:
    """A plug-in that a configuration names."""

    kind: PluginKind
    name: str
    arguments: Mapping[str, Any]


REWARDS = PluginKind(
    key="reward.design",
    arguments_key="reward.arguments",
    group="floe.rewards",
    built_in=("arctic", "sql_r1", "reasoning_sql", "graph_reward", OF_PROOF),
    what="reward design",
    form="a class whose objects take a JudgedGroup and return a reward for each candidate, or such a function",
    needs=("__call__",),
    is_function=True,
)

PROMPT_STYLES = PluginKind(
    key="prompt.style",
    arguments_key="prompt.arguments",
    group="floe.prompt_styles",
    built_in=("compact", "tagged", "arctic"),
    what="prompt style",
    form="a class whose objects have messages(question, evidence, schema) and answer(sql, reads), as "
    "floe.plugins.PromptStyle says",
    needs=("messages", "answer"),
)

DATA_SOURCES = PluginKind(
    key="data.source",
    arguments_key="data.arguments",
    group="floe.data_sources",
    built_in=("demo", "files", "prepared", "mixed"),
    what="source of questions",
    form="a class whose objects have load(folder) that returns floe.plugins.LoadedQuestions",
    needs=("load",),
)

DATABASE_KINDS = PluginKind(
    key="data.database_kind",
    arguments_key="data.database_arguments",
    group="floe.database_kinds",
    built_in=("sqlite", "csv"),
    what="kind of database",
    form="a class whose objects have find(folder, db_id) and build(source, target), as floe.plugins.DatabaseKind says",
    needs=("find", "build"),
)

FAMILIES = PluginKind(
    key="model.family",
    arguments_key="model.family_arguments",
    group="floe.families",
    built_in=("auto",),
    what="model family",
    form="a class derived from floe.plugins.ModelFamily",
    needs=("refusal", "engine_refusal", "attention", "logits"),
)
