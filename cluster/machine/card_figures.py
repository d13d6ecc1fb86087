"""What is measured of one card: a file that the memory plan reads in place of constants; needs no other package."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from floe.configs.files.whole_files import write_whole

FOLDER = "gpu"  # in run.home


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFigures:
    """Every figure but the name may be missing: not every part has been run."""

    card: str
    measured_on: str = ""  # ISO date
    total_bytes: int | None = None  # NVML's
    usable_bytes: int | None = None  # CUDA's total
    cuda_context_bytes: int | None = None
    cuda_graphs_bytes: int | None = None
    engine_asleep_bytes: int | None = None
    cublas_workspace_bytes: int | None = None
    nccl_bytes: int | None = None
    allocator_slack_share: float | None = None  # of a learner's working memory
    matmul_flop_per_s: int | None = None  # in products of large bfloat16 matrices
    learner_rate_share: float | None = None  # share of that rate that an update reached


def slug_of(card: str) -> str:
    """Return the card's name as a file's: `nvidia-a10`."""
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


def figures_file(home_dir: Path, card: str) -> Path:
    return home_dir / FOLDER / f"{slug_of(card)}.json"


def figures_of(card: str, found: Mapping[str, float | str]) -> CardFigures:
    """Return those of the numbers that are figures of a card; one below 0 is a measurement that went wrong."""
    known = {one.name for one in fields(CardFigures)} - {"card", "measured_on"}
    values = {
        name: float(value) if name.endswith("_share") else int(value)
        for name, value in found.items()
        if name in known and float(value) >= 0
    }
    return CardFigures(card=card, measured_on=datetime.date.today().isoformat(), **values)  # type: ignore[arg-type]


def write_figures(home_dir: Path, figures: CardFigures) -> Path:
    """Write the file whole and return its path; a figure that is not known now stays as an earlier proof left it."""
    path = figures_file(home_dir, figures.card)
    known = {name: value for name, value in asdict(figures).items() if value is not None}
    write_json(path, _earlier(path) | known)
    return path


def _earlier(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: object) -> None:
    """Write the value as JSON, whole, into a folder that is made where it is missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, indent=2) + "\n")
