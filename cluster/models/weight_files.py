"""The files that hold a model's weights."""

from __future__ import annotations

from pathlib import Path

from floe.configs.files.foreign_files import parsed_json

INDEX = "model.safetensors.index.json"


def weight_files(model_dir: Path) -> list[Path]:
    """Return the files that the index names, or all of the folder. Raises ValueError for a faulty index."""
    index = model_dir / INDEX
    if not index.is_file():
        return sorted(model_dir.glob("*.safetensors"))
    try:
        names = set(parsed_json(index.read_text())["weight_map"].values())
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError("it has no weight_map") from error
    return [model_dir / name for name in sorted(names)]
