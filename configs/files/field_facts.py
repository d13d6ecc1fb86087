"""What a configuration's fields take, in words (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from floe.configs.files.complaints import fields_of
from floe.configs.schema import RunConfig
from floe.configs.sections.resume_rule import Rule

AT_A_RESUME = {
    Rule.ANOTHER_RUN: "refused, because it would be another run",
    Rule.MAY_CHANGE_BITS: "allowed; results may differ in the last bits",
    Rule.STEPS: "may only grow; the learning rate's schedule spans the new number from there on",
    Rule.FREE: "allowed; it changes no result",
}
NAMES_OF_TYPES = {int: "a whole number", float: "a number", bool: "`true` or `false`", str: "text", Path: "a path"}
BOUNDS = {
    "ge": "at least {}",
    "gt": "greater than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFacts:
    """One field in words, with `code` in backticks."""

    key: str  # section.field
    description: str
    value: str  # kind and bounds
    default: str
    at_a_resume: str  # what happens when a resume gives another value


def all_facts() -> Iterator[FieldFacts]:
    """Yield the facts of every field, in the schema's order."""
    for section in RunConfig.model_fields:
        for name, info in fields_of(section).items():
            yield FieldFacts(
                key=f"{section}.{name}",
                description=info.description or "",
                value=", ".join([name_of_type(info.annotation), *bounds_of(info)]),
                default=default_of(info),
                at_a_resume=next(AT_A_RESUME[one] for one in info.metadata if isinstance(one, Rule)),
            )


def name_of_type(kind: Any) -> str:
    """Return what values a field takes, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return name_of_type(inner[0])
    if origin is Literal:
        return _listed([f"`{_written(one)}`" for one in inner])
    if origin in (Union, UnionType):
        named = [name_of_type(one) for one in inner if one is not NoneType]
        return _listed([*named, *(["nothing"] if NoneType in inner else [])])
    if origin is tuple:
        length = "" if Ellipsis in inner else f"{len(inner)} values, each "
        return f"a list: {length}{name_of_type(inner[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _listed([f"`{one.value}`" for one in kind])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a mapping with {', '.join(f'`{name}`' for name in kind.model_fields)}"
    return NAMES_OF_TYPES[kind]


def bounds_of(info: FieldInfo) -> list[str]:
    """Return the field's bounds in words."""
    return [
        text.format(f"{value:,}" if isinstance(value, int) else f"{value:g}")
        for constraint in info.metadata
        for name, text in BOUNDS.items()
        if (value := getattr(constraint, name, None)) is not None
    ]


def default_of(info: FieldInfo) -> str:
    """Return the default as it is written in a configuration."""
    value = info.get_default(call_default_factory=True)
    return "nothing" if value is None else f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, Enum | Path):
        return str(value.value if isinstance(value, Enum) else value)
    return value if isinstance(value, str) and value else json.dumps(value)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
