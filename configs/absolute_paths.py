"""Relative paths of a configuration, made absolute when a run is made: it goes on from any working folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from configs.complaints import dotted_keys, fields_of
from configs.schema import RunConfig

MODEL, MLFLOW = "model.path", "run.mlflow_uri"
PLACES_OF_MLFLOW = ("databricks", "databricks-uc", "uc")  # that are no folders


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same configuration; what is relative is taken as seen from the working folder, as everything that reads it
    does. A path that begins with `~` stays: it is the same from everywhere."""
    changed: dict[str, dict[str, Any]] = {}
    for key in dotted_keys():
        section, _, field = key.partition(".")
        value = getattr(getattr(config, section), field)
        if (absolute := absolute_value(key, value)) != value:
            changed.setdefault(section, {})[field] = absolute
    sections = {name: getattr(config, name).model_copy(update=fields) for name, fields in changed.items()}
    return config.model_copy(update=sections)


def absolute_value(key: str, value: Any) -> Any:
    """The value of one key `section.field`, a text or a path as it comes."""
    if not value or not isinstance(value, str | Path) or str(value).startswith("~"):
        return value
    section, _, field = key.partition(".")
    if key == MODEL:
        is_folder = not str(value).startswith("embedded:") and Path(value).is_dir()
    elif key == MLFLOW:
        is_folder = not urlsplit(str(value)).scheme and value not in PLACES_OF_MLFLOW
    else:
        is_folder = fields_of(section)[field].annotation in (Path, Path | None)
    return type(value)(str(Path(value).absolute())) if is_folder else value
