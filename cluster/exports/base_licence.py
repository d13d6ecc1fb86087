"""Reads the licence from a base model's folder: in the head of its card, otherwise in a licence file."""

from __future__ import annotations

from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from floe.cluster.exports.model_card import Licence

CARD = "README.md"
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt")
MAX_TITLE_CHARS = 100


def licence_of(model_dir: Path) -> Licence:
    """Return the licence, an empty one where nothing is stated, or nothing that can be read."""
    title = _title(model_dir)
    try:
        data = ModelCard((model_dir / CARD).read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return Licence(title=title)
    return Licence(
        identifier=_text(data.get("license")),
        name=_text(data.get("license_name")),
        link=_text(data.get("license_link")),
        title=title,
    )


def _title(model_dir: Path) -> str | None:
    for name in LICENCE_FILES:
        path = model_dir / name
        if path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
            return next((line[:MAX_TITLE_CHARS] for line in lines if line), None)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
