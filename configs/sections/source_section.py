"""The sources of a mixture: prepared folders, each with its share of a step and its way of comparing results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from floe.configs.sections.bounds import MAX_COUNT, MAX_FACTOR
from floe.configs.sections.learning_sections import Section

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"


class SourceSection(Section):
    """An entry of `data.sources`."""

    path: Path = Field(description="Folder that `floe prepare` wrote.")
    name: str | None = Field(None, description="Its name in metrics, tables and database ids; the folder's name.")
    weight: float | None = Field(
        None, gt=0, le=MAX_FACTOR, description="Its part of a step; left out everywhere: size."
    )
    semantics: Literal["bird", "spider", "strict"] | None = Field(
        None, description="How its results are compared; left out, as reward.semantics and reward.suite say."
    )
    suite: Path | None = Field(
        None, description="Folder of `<db_id>/*.sqlite`, further contents that `spider` semantics judge on as well."
    )
    repeat: int = Field(1, ge=1, le=MAX_COUNT, description="Times that its questions count by size and in an epoch.")

    @property
    def label(self) -> str:
        """The source's name, which is its folder's where none is given."""
        return self.path.name if self.name is None else self.name

    @field_validator("name")
    @classmethod
    def _a_plain_name(cls, value: str | None) -> str | None:
        if value is not None and not NAME.fullmatch(value):
            raise ValueError(f"data.sources has the name {value!r}: give one of {NAME_RULE}")
        return value

    @model_validator(mode="after")
    def _a_suite_is_judged_by_spider(self) -> SourceSection:
        if self.suite is not None and self.semantics != "spider":
            said = "no semantics of its own" if self.semantics is None else f"semantics '{self.semantics}'"
            raise ValueError(
                f"data.sources has a suite for {self.path}, but {said}, and only 'spider' judges on a suite: set "
                "semantics to spider there, or leave out the suite"
            )
        return self


def fault_of_sources(sources: Sequence[SourceSection]) -> str | None:
    """Return why these can't be mixed, with the remedy; None where they can."""
    unnamed = next((one for one in sources if not NAME.fullmatch(one.label)), None)
    if unnamed is not None:
        return (
            f"data.sources has {unnamed.path}, whose folder name {unnamed.label!r} can't name a source: give the entry "
            f"a name of {NAME_RULE}"
        )
    twice = [name for name, count in Counter(one.label.casefold() for one in sources).items() if count > 1]
    if twice:
        return f"data.sources has more than one source {twice[0]!r}: give each of them a name of its own"
    weighted = [one for one in sources if one.weight is not None]
    if weighted and len(weighted) < len(sources):
        bare = next(one for one in sources if one.weight is None)
        return (
            f"data.sources has a weight for {weighted[0].label!r} and none for {bare.label!r}: give every source one, "
            "or none of them, so that each counts by its size"
        )
    repeated = next((one for one in sources if one.repeat > 1), None)
    if repeated is not None and (weighted or len(sources) == 1):
        why = "the weights say how often it is asked" if weighted else "it is the only source"
        return f"data.sources has repeat {repeated.repeat} for {repeated.label!r}, but {why}: leave out repeat"
    return None
