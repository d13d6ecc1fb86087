"""Reports how well distances tell equivalent from different queries on unseen databases, next to text similarities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from floe.cluster.graph_training.auc import aucs, bounds, resample_weights, weighted_auc
from floe.cluster.graph_training.pairs import Pair

MIN_DATABASES = 8  # fewer are no sample to draw from: golds are drawn instead
NETWORK = "graph matching network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An AUC with its interval, and the network's lead over it, resample by resample."""

    pairs: str  # name of the subset
    method: str
    auc: float
    low: float
    high: float
    ahead: float | None  # lead of the network; None in its own row
    ahead_low: float | None
    ahead_high: float | None
    num_equal: int
    num_different: int


Chooser = Callable[[Pair], bool]
SUBSETS: dict[str, Chooser] = {
    "all": lambda pair: True,
    "rewrites and mutations": lambda pair: pair.kind != "other gold",
    "rewrites and other golds": lambda pair: pair.kind != "mutation",
}


def areas(pairs: Sequence[Pair], scores: Mapping[str, np.ndarray], num_resamples: int, seed: int) -> list[Area]:
    """Return areas of each subset and method; `scores` has a value per pair and method, higher for more alike."""
    has_databases = len({pair.database_id for pair in pairs}) >= MIN_DATABASES
    found = []
    for name, chooses in SUBSETS.items():
        chosen = np.array([chooses(pair) for pair in pairs], dtype=bool)
        some = [pair for pair, is_chosen in zip(pairs, chosen, strict=True) if is_chosen]
        is_equal = np.array([pair.is_equal for pair in some], dtype=bool)
        if not is_equal.any() or is_equal.all():
            continue
        clusters = [pair.database_id if has_databases else f"{pair.database_id} {pair.gold}" for pair in some]
        weights = resample_weights(clusters, num_resamples, seed)
        drawn = {method: aucs(values[chosen], is_equal, weights) for method, values in scores.items()}
        for method, values in scores.items():
            low, high = bounds(drawn[method])
            auc = weighted_auc(values[chosen], is_equal, np.ones(len(some)))
            own = weighted_auc(scores[NETWORK][chosen], is_equal, np.ones(len(some)))
            ahead = bounds(drawn[NETWORK] - drawn[method]) if method != NETWORK else (None, None)
            found.append(
                Area(
                    pairs=name,
                    method=method,
                    auc=auc,
                    low=low,
                    high=high,
                    ahead=None if method == NETWORK else own - auc,
                    ahead_low=ahead[0],
                    ahead_high=ahead[1],
                    num_equal=int(is_equal.sum()),
                    num_different=int((~is_equal).sum()),
                )
            )
    return found


def render(found: Sequence[Area], console: Console) -> None:
    table = Table(
        "pairs", "equal", "different", "method", "AUC [95 %]", "network ahead by", box=box.SIMPLE_HEAD, pad_edge=False
    )
    before = ""
    for area in found:
        first = area.pairs != before
        before = area.pairs
        ahead = "" if area.ahead is None else f"{area.ahead:+.3f} [{area.ahead_low:+.3f}, {area.ahead_high:+.3f}]"
        table.add_row(
            area.pairs if first else "",
            str(area.num_equal) if first else "",
            str(area.num_different) if first else "",
            area.method,
            f"{area.auc:.3f} [{area.low:.3f}, {area.high:.3f}]",
            ahead,
        )
    console.print(table)
