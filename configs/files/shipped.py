"""Finds the configurations that floe ships by their names: `quickstart` is configs/quickstart.yaml of floe itself."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent
WRITTEN_OUT = "configs/"  # as a checkout has them; an installed floe has no such folder where a command runs


def shipped_names() -> list[str]:
    """Return the names of all shipped configurations, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped_config(given: str) -> Path | None:
    """Return the file of the shipped configuration that is meant; None where a file is, or none has that name."""
    name = given.removeprefix(WRITTEN_OUT).removesuffix(".yaml") if given.startswith(WRITTEN_OUT) else given
    return FOLDER / f"{name}.yaml" if name in shipped_names() and not Path(given).is_file() else None
