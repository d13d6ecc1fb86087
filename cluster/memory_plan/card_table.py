"""Table of a plan's result on the usual sizes of GPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich import box
from rich.table import Table

from floe.cluster.memory_plan import MemoryPlan, ModelShape, plan_memory
from floe.cluster.memory_plan.basis import PlanBasis
from floe.cluster.memory_plan.card_sizes import CARD_SIZES
from floe.configs.schema import RunConfig

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRow:
    """One size of card. If no placement fits, the figures are of the one that takes least."""

    card: str
    usable_bytes: int
    colocation: str | None
    peak_bytes: int
    margin_bytes: int  # below 0 what is missing
    fullest_phase: str
    max_pack_tokens: int
    kv_cache_bytes: int
    changes: dict[str, object] | None  # settings that make it fit; None where it does already, empty where none would
    needed_bytes: int | None  # size of a card that fits, where no changes would do


def card_rows(config: RunConfig, shape: ModelShape, basis: PlanBasis) -> Iterator[CardRow]:
    """Yield a row for each size; the host's memory is not checked, because the cards are elsewhere."""
    for size in CARD_SIZES:
        yield _row(size.name, plan_memory(config, shape, size.usable_bytes, replace(basis, host_bytes=None)))


def _row(name: str, made: MemoryPlan) -> CardRow:
    shown = made.chosen or min(made.options, key=lambda option: option.peak_bytes)
    remedy = made.remedy
    return CardRow(
        card=name,
        usable_bytes=made.budget_bytes,
        colocation=None if made.colocation is None else str(made.colocation),
        peak_bytes=shown.peak_bytes,
        margin_bytes=shown.margin_bytes,
        fullest_phase=str(shown.fullest),
        max_pack_tokens=shown.max_pack_tokens,
        kv_cache_bytes=shown.kv_bytes,
        changes=None if remedy is None else remedy.changes,
        needed_bytes=None if remedy is None or remedy.changes else remedy.needed_bytes,
    )


def card_table(rows: list[CardRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("card", "GiB", "placement", "peak", "margin", "to make it fit"):
        is_text = heading in ("card", "placement", "to make it fit")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "to make it fit")
    for row in rows:
        table.add_row(
            row.card,
            f"{row.usable_bytes / GIB:.2f}",
            row.colocation or "does not fit",
            f"{row.peak_bytes / GIB:.2f}",
            f"{row.margin_bytes / GIB:.2f}",
            _what_to_do(row),
        )
    return table


def _what_to_do(row: CardRow) -> str:
    if row.changes is None:
        return ""
    if row.needed_bytes is not None:
        return f"a smaller model, or {row.needed_bytes / GIB:.0f} GiB"
    return " ".join(f"{key}={json.dumps(value)}".replace('"', "") for key, value in row.changes.items())
