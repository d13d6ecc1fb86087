"""Small prepared folders and configurations of mixtures, for tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from floe.actors.questions.pass_rates import PASS_RATES_FILE, PassRate, write_pass_rates
from floe.actors.questions.prepared_folder import MANIFEST_FILE, write_splits
from floe.cluster.messages import Question
from floe.configs.schema import RunConfig

SHOP = "CREATE TABLE item (name TEXT, price REAL); INSERT INTO item VALUES ('pen', 1.5), ('cup', 4), ('cup', 4);"


def asked(folder: str, split: str, count: int, database_id: str = "shop") -> list[Question]:
    """Return questions whose texts and golds no other folder has."""
    return [
        Question(
            question_id=f"{split}{i}",
            database_id=database_id,
            text=f"Which names, {folder} {split} {i}?",
            gold_sql=(f"SELECT name, '{folder} {split} {i}' FROM item",),
        )
        for i in range(count)
    ]


def source_folder(
    folder: Path, num_train: int = 6, script: str = SHOP, rates: dict[str, PassRate] | None = None, **more: Any
) -> Path:
    """Write a prepared folder with the database `shop`; `more` replaces the questions of a split."""
    (folder / "databases" / "shop").mkdir(parents=True)
    for name in {"shop"} | {one.database_id for questions in more.values() for one in questions}:
        (folder / "databases" / name).mkdir(exist_ok=True)
        connection = sqlite3.connect(folder / "databases" / name / f"{name}.sqlite")
        connection.executescript(script)
        connection.close()
    splits = {
        "train": asked(folder.name, "train", num_train),
        "tune": asked(folder.name, "tune", 2),
        "test": asked(folder.name, "test", 2),
    }
    write_splits(folder, splits | more)
    (folder / MANIFEST_FILE).write_text("{}")
    if rates is not None:
        write_pass_rates(folder / PASS_RATES_FILE, rates)
    return folder


def mixture_of(home: Path, sources: Sequence[dict[str, Any]], per_step: int = 3, **sections: Any) -> RunConfig:
    data = {"sources": list(sources)} | sections.pop("data", {})
    run = {"home": home} | sections.pop("run", {"num_steps": 4})
    return RunConfig.model_validate(
        {
            "data": data,
            "run": run,
            "rollout": {"questions_per_step": per_step},
            "warm_start": {"enabled": False},
            **sections,
        }
    )
