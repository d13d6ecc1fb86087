"""Checks which base model an adapter was made for."""

from __future__ import annotations

from pathlib import Path

from floe.learner.adapter.files import named_base


def other_base_warning(adapter: Path, model_path: str, model_dir: Path) -> str | None:
    """Return a sentence where the adapter names another base than the model; folders count by their last part."""
    named = named_base(adapter)
    known = {one.lower() for one in (model_path, str(model_dir), model_dir.name, Path(model_path).name)}
    if named is None or named.lower() in known or Path(named).name.lower() in known:
        return None
    return (
        f"The adapter in {adapter} was made for the base model {named}, and model.path is {model_path}: if that is "
        "another model, the result does not show what the adapter does."
    )
