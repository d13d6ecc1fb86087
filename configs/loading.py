"""Reads a run's configuration: YAML, then `section.field=value` overrides, then the schema's rules."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from configs.complaints import dotted_keys, fields_of, unknown_key, value_sentence, wrong_value
from configs.errors import ConfigError
from configs.foreign_files import read_regular_text
from configs.schema import RunConfig
from configs.whole_files import write_whole

DEFAULTS = "the defaults"


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of the file at `path` (None: the defaults alone), with `section.field=value` overrides on top.

    A value is YAML; for a text or path field it is taken as it stands. The last of several overrides of a key holds.
    Raises ConfigError, in one sentence, for the first thing that is wrong.
    """
    source = DEFAULTS if path is None else str(path)
    values, origins = {} if path is None else _read_sections(path), {}
    for override in overrides:
        key, value = _parse_override(override)
        section, _, field = key.partition(".")
        values.setdefault(section, {})[field] = value
        origins[key] = f"the override {_without_credentials(override)}"
    _refuse_switches(values, origins, source)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(wrong_value(error, origins, source)) from None
    _refuse_infinity(config, origins, source)
    return config


def dump_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration so that `load_config(path)` gives it back. Raises ConfigError if it can't."""
    text = yaml.dump(config.model_dump(mode="json"), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(
            f"Can't write the configuration to {path} ({error.strerror}): choose another folder."
        ) from None


class _PlainDumper(yaml.SafeDumper):
    """Writes every value out, as the loader wants it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _PlainLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence, and aliases of aliases stand for gigabytes: both refused."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"line {alias.start_mark.line + 1} has an alias, where the value itself belongs", None
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key_node, _ in node.value:
            name = (key_node.tag, str(key_node.value))
            if name in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"line {line} repeats the key '{key_node.value}'", key_node.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """The file as sections of fields, every key known to the schema."""
    document = _read_yaml(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path} holds a {type(document).__name__}: a configuration is sections of `field: value` lines."
        )
    sections: dict[str, dict[str, Any]] = {}
    for section, fields in document.items():
        if section not in RunConfig.model_fields:
            if section in dotted_keys():
                raise ConfigError(
                    f"Unknown key '{section}' in {path}: in a file, write '{section.partition('.')[2]}:' "
                    f"indented under '{section.partition('.')[0]}:'."
                )
            raise ConfigError(unknown_key(str(section), str(path)))
        if fields is None:  # a section whose every line is a comment
            continue
        if not isinstance(fields, dict):
            raise ConfigError(value_sentence((section,), fields, str(path), "a section of `field: value` lines"))
        for field in fields:
            if field not in fields_of(section):
                raise ConfigError(unknown_key(f"{section}.{field}", str(path)))
        sections[section] = dict(fields)
    return sections


def _read_yaml(path: Path) -> Any:
    try:
        text = read_regular_text(path, "utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration file {path}: give an existing one, as in --config configs/quickstart.yaml."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: give the configuration file in it.") from None
    except OSError as error:
        raise ConfigError(
            f"Can't read the configuration file {path} ({error.strerror}): check its permissions."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: give a YAML file.") from None
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML ({_yaml_reason(error)}): correct that line.") from None


def _without_credentials(override: str) -> str:
    """What stands before the @ of an address is for nobody's screen or log."""
    return re.sub(r"://[^/@\s]*@", "://...@", override)


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    origin = f"the override {_without_credentials(override)}"
    if not equals or not key.strip():
        raise ConfigError(f"'{override}' is no override: write section.field=value, as in rollout.group_size=16.")
    key = key.strip()
    if key in RunConfig.model_fields:
        field = next(iter(fields_of(key)))
        raise ConfigError(f"'{override}' sets a whole section: set its fields one by one, as in {key}.{field}=value.")
    section, _, field = key.partition(".")
    info = fields_of(section).get(field)
    if info is None:
        raise ConfigError(unknown_key(key, origin))
    try:
        value = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if not _takes_text(info.annotation):
            raise ConfigError(
                f"The value of '{override}' is not valid YAML ({_yaml_reason(error)}): quote it."
            ) from None
        value = text
    if _takes_text(info.annotation) and not isinstance(value, str) and value is not None:
        value = text  # a run named 7 or a folder named 2024-01-01
    return key, value


def _takes_text(annotation: Any) -> bool:
    return annotation in (str, Path, str | None, Path | None)


def _refuse_switches(values: dict[str, dict[str, Any]], origins: dict[str, str], source: str) -> None:
    """Pydantic takes `yes` for the number 1; here that is a slip."""
    for key, value in _leaves(values):
        section, _, field = key.partition(".")
        if isinstance(value, bool) and fields_of(section)[field].annotation not in (bool, bool | None):
            origin = origins.get(key, source)
            raise ConfigError(value_sentence((section, field), value, origin, "a value and not true or false"))


def _refuse_infinity(config: RunConfig, origins: dict[str, str], source: str) -> None:
    """No bound of the schema refuses infinity, which no field means."""
    for key, value in _leaves(config.model_dump()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(value_sentence(key.split("."), value, origins.get(key, source), "a finite number"))


def _leaves(values: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Every scalar with its `section.field`, those in lists included."""
    for section, fields in values.items():
        for field, value in fields.items():
            for entry in value if isinstance(value, list | tuple) else [value]:
                yield f"{section}.{field}", entry


def _yaml_reason(error: Exception) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    reason = " ".join(str(problem or error).split())
    return reason if mark is None or reason.startswith("line ") else f"line {mark.line + 1}: {reason}"
