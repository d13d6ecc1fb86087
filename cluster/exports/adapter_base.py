"""Checks which base model an adapter was made for."""

from __future__ import annotations

from pathlib import Path

from floe.learner.adapter.files import named_base

CACHED_MODEL = "models--"  # of folders in the hub's cache: models--Qwen--Qwen2.5-Coder-3B-Instruct/snapshots/REVISION


def other_base(adapter: Path, model_path: str, model_dir: Path) -> str | None:
    """Return the base that the adapter names where it is another than the model; folders count by their last part."""
    named = named_base(adapter)
    known = {one.lower() for one in (model_path, str(model_dir), model_dir.name, Path(model_path).name)}
    known |= {one.lower() for one in (_hub_name(model_path), _hub_name(str(model_dir))) if one is not None}
    if named is None or {named.lower(), Path(named).name.lower(), (_hub_name(named) or named).lower()} & known:
        return None
    return named


def _hub_name(path: str) -> str | None:
    """Return the name of a model whose folder is in the hub's cache: its last part says the revision alone."""
    part = next((one for one in Path(path).parts if one.startswith(CACHED_MODEL)), None)
    return None if part is None else part.removeprefix(CACHED_MODEL).replace("--", "/")


def other_base_warning(adapter: Path, model_path: str, model_dir: Path) -> str | None:
    """Return a sentence where the adapter names another base than the model; folders count by their last part."""
    named = other_base(adapter, model_path, model_dir)
    if named is None:
        return None
    return (
        f"The adapter in {adapter} was made for the base model {named}, and model.path is {model_path}: if that is "
        "another model, the result does not show what the adapter does."
    )
