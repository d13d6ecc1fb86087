"""Reads the file of `floe evaluate --benchmarks`: data sets and policies, each wrong key refused in a sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from floe.actors.layouts.registry import LAYOUTS
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.configs.errors import ConfigError
from floe.configs.files.complaints import RULES, shown
from floe.configs.files.foreign_files import read_regular_text
from floe.configs.files.paths import placed_path
from floe.configs.files.shipped import shipped_config
from floe.configs.files.yaml_text import read_yaml, yaml_reason
from floe.configs.schema import PromptSection
from floe.configs.sections.bounds import MAX_COUNT, MAX_PARALLEL

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # it names a folder too
MACRO_AVERAGE = "macro average"
OWN_RULES = {"is_instance_of": "a path that is not empty"}


def _path_of_text(value: object) -> object:
    """Return the path of a text; an empty one, which Path would take for the file's folder, stays text."""
    return Path(value) if isinstance(value, str) and value.strip() else value


FilePath = Annotated[Path, BeforeValidator(_path_of_text)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PromptChanges(Entry):
    """Fields of the prompt that a data set has otherwise than the configuration.

    The style is not among them: one engine serves every data set, and stops at the texts of one style.
    """

    evidence: bool | None = None
    descriptions: Literal["none", "columns", "values"] | None = None
    example_values: int | None = None
    retrieved_values: int | None = None


class Benchmark(Entry):
    """A data set: a folder that `floe prepare` reads or wrote, or a questions file and a folder of databases."""

    name: str
    data: FilePath | None = None
    questions: FilePath | None = None
    databases: FilePath | None = None
    layout: str | None = None  # one of `floe prepare --list`, where it is not recognised
    split: str | None = None
    semantics: Literal["bird", "spider", "strict"] | None = None
    suite: FilePath | None = None
    clock: str | None = None
    limit: Count | None = None
    prompt: PromptChanges = PromptChanges()

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if (self.data is None) == (self.questions is None):
            raise ValueError("needs either 'data', a folder, or 'questions', a file with 'databases' for it")
        if self.questions is not None and self.databases is None:
            raise ValueError("has 'questions' without 'databases': give the folder of their databases")
        if self.questions is not None and self.split is not None:
            raise ValueError("has 'split', but a single questions file has no splits: leave it out")
        names = [one.name for one in LAYOUTS]
        if self.layout is not None and self.layout not in names:
            raise ValueError(f"has the layout '{self.layout}', which floe does not know: use one of {', '.join(names)}")
        return self


class Policy(Entry):
    """A column of the table: the base model, an adapter, or a model behind an endpoint."""

    name: str
    base: Literal[True] | None = None
    adapter: FilePath | None = None
    endpoint: EndpointPolicy | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if sum(one is not None for one in (self.base, self.adapter, self.endpoint)) != 1:
            raise ValueError("needs one of 'base: true', 'adapter' and 'endpoint'")
        return self


class TableFile(Entry):
    """The whole file; paths are absolute."""

    config: FilePath | None = None
    samples: Annotated[int, Field(ge=1, le=MAX_PARALLEL)] | None = None
    benchmarks: tuple[Benchmark, ...]
    policies: tuple[Policy, ...] = (Policy(name="base", base=True),)


EntryKind = TypeVar("EntryKind", bound=Entry)


def read_table_file(path: Path) -> TableFile:
    """Read the file. Raises ConfigError, in one sentence, for the first thing that is wrong."""
    document = _document(path)
    values: dict[str, Any] = {name: one for name, one in document.items() if name not in ("benchmarks", "policies")}
    values["benchmarks"] = _entries(Benchmark, "benchmarks", document.get("benchmarks"), path)
    if document.get("policies") is not None:
        values["policies"] = _entries(Policy, "policies", document["policies"], path)
    if isinstance(values.get("config"), str):
        values["config"] = shipped_config(values["config"]) or values["config"]
    return _placed(_made(TableFile, values, str(path), "the file"), path)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = read_yaml(read_regular_text(path, "utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"There is no benchmarks file {path}: give a YAML file with a list 'benchmarks'.") from None
    except OSError as error:
        raise ConfigError(f"Can't read the benchmarks file {path} ({error.strerror}): give a YAML file.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML ({yaml_reason(error)}): correct that line.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no benchmarks: write a list 'benchmarks' of 'name' and 'data' each.")
    return {str(name): value for name, value in document.items()}


def _entries(kind: type[EntryKind], key: str, given: Any, path: Path) -> tuple[EntryKind, ...]:
    """Return the entries of a list. Raises ConfigError for a wrong one, and for two of one name."""
    if not isinstance(given, list) or not given:
        raise ConfigError(f"'{key}' in {path} is {shown(given)}, but must be a list of at least one entry: add one.")
    made = []
    for number, fields in enumerate(given, start=1):
        name = fields.get("name") if isinstance(fields, dict) else None
        where = f"entry {number} of '{key}'" + (f" ('{name}')" if isinstance(name, str) else "")
        if not isinstance(fields, dict):
            raise ConfigError(f"In {path}, {where} is {shown(fields)}: write 'name: ...' and what else it needs.")
        if isinstance(fields.get("endpoint"), dict):
            described = f"'endpoint' of {where} in {path}"
            fields = fields | {"endpoint": EndpointPolicy.of_fields(fields["endpoint"], described)}
        made.append(_made(kind, fields, str(path), where))
    names = [str(one.name).casefold() for one in made]  # type: ignore[attr-defined]  # both kinds have one
    for number, name in enumerate(names, start=1):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"In {path}, entry {number} of '{key}' is called '{name}', which can't name a folder: use letters, "
                "digits and _ . + -."
            )
        if name in names[: number - 1]:
            raise ConfigError(f"In {path}, two entries of '{key}' are called '{name}': name each once.")
    return tuple(made)


def _made(kind: type[EntryKind], fields: Mapping[str, Any], path: str, where: str) -> EntryKind:
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError(_sentence(kind, error, path, where)) from None


def _sentence(kind: type[Entry], error: ValidationError, path: str, where: str) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = location[-1] if location else ""
    home = PromptChanges if location[:1] == ["prompt"] else kind
    if first["type"] == "extra_forbidden":
        known = max(home.model_fields, key=lambda one: difflib.SequenceMatcher(None, key, one).ratio())
        hint = f"the nearest known key is '{known}'"
        if home is PromptChanges and key in PromptSection.model_fields:
            hint = "set it in the configuration, because all data sets share it"
        return f"Unknown key '{'.'.join(location)}' in {where} of {path}: {hint}."
    if first["type"] == "value_error":
        return f"In {path}, {where} {first['ctx']['error']}."
    if first["type"] == "missing":
        return f"In {path}, {where} lacks '{key}': add it."
    rule = OWN_RULES.get(first["type"]) or RULES.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"]
    return f"In {path}, '{'.'.join(location)}' of {where} is {shown(first['input'])}, but must be {rule}: correct it."


def _placed(table: TableFile, path: Path) -> TableFile:
    """Make every path absolute: a relative one starts at the file's folder. Raises ConfigError."""

    def placed(entry: EntryKind, where: str, fields: tuple[str, ...]) -> EntryKind:
        changes = {}
        for field in fields:
            given = getattr(entry, field)
            if given is not None:
                try:
                    changes[field] = placed_path(str(given), path.parent)
                except ValueError as fault:
                    raise ConfigError(f"In {path}, '{field}' of {where} must be {fault}: correct it.") from None
        return entry.model_copy(update=changes)

    return placed(table, "the file", ("config",)).model_copy(
        update={
            "benchmarks": tuple(
                placed(one, f"'{one.name}'", ("data", "questions", "databases", "suite")) for one in table.benchmarks
            ),
            "policies": tuple(placed(one, f"'{one.name}'", ("adapter",)) for one in table.policies),
        }
    )
