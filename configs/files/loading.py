"""Reads a run's configuration: YAML, then `section.field=value` overrides, then the schema's rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from floe.configs.errors import ConfigError
from floe.configs.files.complaints import dotted_keys, fields_of, unknown_key, value_sentence, wrong_value
from floe.configs.files.foreign_files import read_regular_text
from floe.configs.files.paths import RELATIVE_RULE, placed_model, placed_path, placed_records
from floe.configs.files.shipped import shipped_config, shipped_names
from floe.configs.files.whole_files import write_whole
from floe.configs.files.yaml_text import PlainDumper, read_yaml, yaml_reason
from floe.configs.plugins.kinds import OF_RUN
from floe.configs.schema import RunConfig

DEFAULTS = "the defaults"
HOME_OF_ANCHORS = "x-"
MAX_SHOWN_OVERRIDE = 160
SOURCES, PATHS_OF_A_SOURCE = "data.sources", ("path", "suite")
LENGTHS = ("num_steps", "num_epochs")
NULLS = ("", "null", "Null", "NULL", "~")
PLACED = {
    "model.path": placed_model,
    "lora.initial_adapter": placed_model,
    "run.mlflow_uri": placed_records,
}  # for every field of a path


def load_config(path: Path | str | None, overrides: Sequence[str] = (), *, is_of_run: bool = False) -> RunConfig:
    """Return the configuration of the file at `path` (None: the defaults), with `section.field=value` overrides on top.

    In place of a path, the name of a configuration that floe ships is taken too. A value is YAML; for a text or path
    field it is taken as it stands. The last of several overrides of a key holds. Relative paths become absolute: those
    of the file start at its folder, those of overrides at the working folder. `is_of_run` says that a run has begun
    with it, so that a plug-in's package may be gone.
    Raises ConfigError, in one sentence, for the first thing that is wrong.
    """
    path = None if path is None else shipped_config(str(path)) or Path(path)
    source = DEFAULTS if path is None else str(path)
    values, origins = {} if path is None else _read_sections(path), {}
    for override in overrides:
        key, value = _parse_override(override)
        section, _, field = key.partition(".")
        field, _, argument = field.partition(".")
        fields = values.setdefault(section, {})
        if argument:
            known = fields.get(field)
            fields[field] = {**(known if isinstance(known, dict) else {}), argument: value}
        else:
            fields[field] = value
        origins[f"{section}.{field}"] = f"the override {_without_credentials(override)}"
    _keep_one_length(values, origins)
    _refuse_switches(values, origins, source)
    _refuse_odd_text(values, origins, source)
    _place(values, origins, source, Path() if path is None else path.parent)
    try:
        return with_plugin_folder(RunConfig.model_validate(values, context=OF_RUN if is_of_run else None))
    except ValidationError as error:
        raise ConfigError(wrong_value(error, origins, source)) from None


def with_plugin_folder(config: RunConfig) -> RunConfig:
    """Return the configuration with the working folder as that of plug-ins, where it names one and no folder.

    So that workers, and a resume from another folder, find the same modules.
    """
    if config.run.plugin_folder is not None or not config.plugins:
        return config
    try:
        folder = Path.cwd()
    except OSError:  # the working folder is gone
        return config
    return config.model_copy(update={"run": config.run.model_copy(update={"plugin_folder": folder})})


def dump_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration so that `load_config(path)` gives it back. Raises ConfigError if it can't."""
    values = config.model_dump(mode="json")
    if config.run.known_num_steps is None:  # the default is not the number of its epochs
        del values["run"]["num_steps"]
    text = yaml.dump(values, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(
            f"Can't write the configuration to {path} ({error.strerror}): choose another folder."
        ) from None


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """Return the file as sections of fields, every key known to the schema."""
    document = _read_yaml(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path} holds a {type(document).__name__}: a configuration is sections of `field: value` lines."
        )
    sections: dict[str, dict[str, Any]] = {}
    for section, fields in document.items():
        if str(section).startswith(HOME_OF_ANCHORS):
            continue
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
            f"There is no configuration file {path}: give an existing one ({RELATIVE_RULE}), or the name of one that "
            f"floe ships: {', '.join(shipped_names())}."
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
        return read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML ({yaml_reason(error)}): correct that line.") from None


def _without_credentials(override: str) -> str:
    """Return the override for a message: without what stands before the @ of an address, and cut where it is long."""
    text = re.sub(r"://[^/@\s]*@", "://...@", override)
    return text if len(text) <= MAX_SHOWN_OVERRIDE else text[: MAX_SHOWN_OVERRIDE - 1] + "…"


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    origin = f"the override {_without_credentials(override)}"
    if not equals or not key.strip():
        raise ConfigError(
            f"'{_without_credentials(override)}' is not a valid override: write section.field=value, as in "
            "rollout.group_size=16."
        )
    key = key.strip()
    if key in RunConfig.model_fields:
        field = next(iter(fields_of(key)))
        raise ConfigError(f"'{override}' sets a whole section: set its fields one by one, as in {key}.{field}=value.")
    section, _, field = key.partition(".")
    field, _, argument = field.partition(".")
    info = fields_of(section).get(field)
    if info is None or (argument and info.annotation != dict[str, Any]):
        raise ConfigError(unknown_key(key, origin))
    if _takes_text(info.annotation):
        return key, _text_value(text.strip(), is_path=_takes_path(info.annotation))
    try:
        return key, read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"The value of '{_without_credentials(override)}' is not valid YAML ({yaml_reason(error)}): quote it."
        ) from None


def _text_value(text: str, *, is_path: bool) -> str | None:
    """Return a text as written, without the quotes around it: a run may be named 7, and a folder may hold a #."""
    if text in NULLS and not (text == "~" and is_path):
        return None
    if text[0] in "'\"":
        try:
            value = read_yaml(text)
        except yaml.YAMLError:
            return text
        return value if isinstance(value, str) else text
    return text


def _takes_path(annotation: Any) -> bool:
    return annotation in (Path, Path | None)


def _takes_text(annotation: Any) -> bool:
    return _takes_path(annotation) or annotation in (str, str | None)


def _keep_one_length(values: dict[str, dict[str, Any]], origins: dict[str, str]) -> None:
    """Let the length of a run that an override gives replace the file's: it is one in steps or one in epochs.

    Raises ConfigError where overrides give both.
    """
    run = values.get("run", {})
    given = [name for name in LENGTHS if f"run.{name}" in origins and run[name] is not None]
    if len(given) > 1:
        steps, epochs = (origins[f"run.{name}"] for name in LENGTHS)
        raise ConfigError(f"A run's length is given twice, by {steps} and {epochs}: give one of the two.")
    for name in LENGTHS:
        if given and name not in given:
            run.pop(name, None)


def _refuse_switches(values: dict[str, dict[str, Any]], origins: dict[str, str], source: str) -> None:
    """Refuse true and false for a number: pydantic takes `yes` for 1, and here that is a slip."""
    for key, value in _leaves(values):
        section, _, field = key.partition(".")
        if isinstance(value, bool) and fields_of(section)[field].annotation not in (bool, bool | None):
            origin = origins.get(key, source)
            raise ConfigError(value_sentence((section, field), value, origin, "a value and not true or false"))


def _refuse_odd_text(values: dict[str, dict[str, Any]], origins: dict[str, str], source: str) -> None:
    """Refuse control characters, text that UTF-8 can't write, and Python's None in place of null."""
    for key, value in _leaves(values):
        section, _, field = key.partition(".")
        if not isinstance(value, str):
            continue
        annotation, rule = fields_of(section)[field].annotation, ""
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            rule = "UTF-8 text without control characters"
        elif value == "None" and annotation in (str | None, Path | None):
            rule = "null where it is to be left unset"
        if rule:
            raise ConfigError(value_sentence((section, field), value, origins.get(key, source), rule))


def _place(values: dict[str, dict[str, Any]], origins: dict[str, str], source: str, file_folder: Path) -> None:
    """Make each path absolute, in place."""
    _place_sources(values, origins, source, file_folder)
    for section, fields in values.items():
        for field, value in fields.items():
            key = f"{section}.{field}"
            place = placed_path if _takes_path(fields_of(section)[field].annotation) else PLACED.get(key)
            is_default = value == str(fields_of(section)[field].default)
            if place is None or is_default or not isinstance(value, str | Path):
                continue
            try:
                fields[field] = place(str(value), Path() if key in origins else file_folder)
            except ValueError as error:
                raise ConfigError(
                    value_sentence((section, field), value, origins.get(key, source), str(error))
                ) from None


def _place_sources(values: dict[str, dict[str, Any]], origins: dict[str, str], source: str, file_folder: Path) -> None:
    """Make the paths of a mixture's sources absolute, in a list of their own."""
    data = values.get("data", {})
    given = data.get("sources")
    if not isinstance(given, list | tuple):
        return
    folder = Path() if SOURCES in origins else file_folder
    placed = [dict(one) if isinstance(one, dict) else one for one in given]
    for number, entry in enumerate(placed):
        for name in PATHS_OF_A_SOURCE:
            if isinstance(entry, dict) and isinstance(entry.get(name), str):
                try:
                    entry[name] = placed_path(entry[name], folder)
                except ValueError as error:
                    location = ("data", "sources", number, name)
                    raise ConfigError(
                        value_sentence(location, entry[name], origins.get(SOURCES, source), str(error))
                    ) from None
    data["sources"] = placed


def _leaves(values: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield every scalar with its `section.field`, those in lists and in their mappings included."""
    for section, fields in values.items():
        for field, value in fields.items():
            if not isinstance(value, list | tuple):
                yield f"{section}.{field}", value
                continue
            for entry in value:
                for one in entry.values() if isinstance(entry, dict) else [entry]:
                    yield f"{section}.{field}", one
