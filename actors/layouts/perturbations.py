"""Dr.Spider: one folder for each perturbation of Spider's dev split, of the questions or of the databases."""

from __future__ import annotations

from pathlib import Path

from floe.actors.layouts.interface import Layout, LayoutFile
from floe.actors.layouts.places import places

QUESTIONS = "questions_post_perturbation.json"
DATABASES = ("database_post_perturbation", "databases")


def find(folder: Path, databases_dir: Path | None) -> tuple[LayoutFile, ...]:
    """Return the perturbed questions of each perturbation, on the perturbed databases where there are any."""
    homes = [place for place in places(folder) if (place / QUESTIONS).is_file()]
    return tuple(
        LayoutFile(split="test", questions=home / QUESTIONS, databases_dir=databases_dir or _databases(home))
        for home in homes
    )


def _databases(home: Path) -> Path:
    return next((home / name for name in DATABASES if (home / name).is_dir()), home / DATABASES[-1])


LAYOUT = Layout(
    name="dr-spider",
    summary=f"Dr.Spider: data/<perturbation>/{QUESTIONS}, {DATABASES[0]}/ or {DATABASES[1]}/",
    find=find,
)
