"""Profiles a result in bounded size, for a vote and for the published soft metrics (pure)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from floe.cluster.messages import Outcome
from floe.reward_service.comparison.comparison import Answer, Row, answers_match
from floe.reward_service.verdict import ResultTooLarge, Verdict

MAX_CELLS = 2_000_000  # cells of a result that is profiled: a second of CPU time
MAX_VALUES = 4_000  # distinct values whose counts leave the child, about 100 KB
# Digests live as long as a vote does. They are hashlib's, so that another trainer needs no package for its reward.
RESULT_DIGEST_BYTES, VALUE_DIGEST_BYTES = 16, 8


def result_profile(answer: Answer, golds: Sequence[Answer]) -> dict[str, Any] | None:
    """Return the fields of `ResultProfile` except for the time ratio.

    None for a result of more than MAX_CELLS cells, or whose columns can't be put in the gold's order within the
    search's budget.
    """
    if answer.num_columns * len(answer.rows) > MAX_CELLS:
        return None
    try:
        is_spider_match = any(answers_match("spider", gold, answer) for gold in golds)
    except ResultTooLarge:
        return None
    return {
        "digest": rows_digest(answer.rows),
        "num_rows": len(answer.rows),
        "column_counts": column_counts([column[0] for column in answer.description], answer.rows),
        "soft_f1": max(soft_f1(gold.rows, answer.rows) for gold in golds),
        "is_bird_match": any(answers_match("bird", gold, answer) for gold in golds),
        "is_spider_match": is_spider_match,
    }


def rows_digest(rows: Sequence[Row]) -> str:
    """Return a name of the set of rows: two results have the same exactly when Python's `set(rows)` are equal."""
    different = sorted({repr(_canonical_row(row)) for row in rows})
    return _digest("\n".join(different), RESULT_DIGEST_BYTES)


def column_counts(column_names: Sequence[str], rows: Sequence[Row]) -> dict[str, dict[str, int]] | None:
    """Return for each column name how often each hash of a value occurs; None above MAX_VALUES distinct values.

    Columns of one name are counted together.
    """
    counts: dict[str, Counter[str]] = {}
    for name, cells in zip(column_names, zip(*rows, strict=True), strict=True) if rows else ():
        counter = counts.setdefault(name, Counter())
        for cell, count in Counter(repr(_canonical(cell)) for cell in cells).items():
            counter[_digest(cell, VALUE_DIGEST_BYTES)] += count
        if sum(map(len, counts.values())) > MAX_VALUES:
            return None
    return {name: dict(counter) for name, counter in counts.items()}


def soft_f1(gold: Sequence[Row], prediction: Sequence[Row]) -> float:
    """Return BIRD's soft F1 (bird-bench/mini_dev, evaluation_f1.py): cells shared by distinct rows i of both sides.

    Each pair of rows adds three shares, all over the gold's number of columns. The predicted row's cells that are in
    the gold row add to the true positives, its other cells to the false positives, and the gold row's cells that it
    lacks to the false negatives. A row without a partner counts 1. Row order matters, column order doesn't.
    """
    if not gold and not prediction:
        return 1.0
    gold, prediction = list(dict.fromkeys(gold)), list(dict.fromkeys(prediction))
    true_positives = false_positives = false_negatives = 0.0
    for gold_row, row in zip(gold, prediction, strict=False):
        gold_cells, cells = frozenset(gold_row), frozenset(row)
        num_shared = sum(cell in gold_cells for cell in row)
        true_positives += num_shared / len(gold_row)
        false_positives += (len(row) - num_shared) / len(gold_row)
        false_negatives += sum(cell not in cells for cell in gold_row) / len(gold_row)
    false_negatives += max(0, len(gold) - len(prediction))
    false_positives += max(0, len(prediction) - len(gold))
    # 2PR / (P + R) with P = tp / (tp + fp) and R = tp / (tp + fn).
    return 2 * true_positives / (2 * true_positives + false_positives + false_negatives)


def time_ratio(
    run: Callable[[str], Verdict], gold_sql: str, sql: str, num_timings: int, time_limit_s: float
) -> float | None:
    """Return the gold's CPU time over the candidate's, timed until `time_limit_s` is spent; None after an error.

    They take turns in going first: the second finds the caches warm.
    """
    ratios: list[float] = []
    spent_s = 0.0
    while len(ratios) < num_timings and spent_s < time_limit_s:
        order = (gold_sql, sql) if len(ratios) % 2 else (sql, gold_sql)
        first, second = (run(one) for one in order)
        if first.outcome is not Outcome.MATCH or second.outcome is not Outcome.MATCH:
            return None
        gold, own = (first, second) if len(ratios) % 2 else (second, first)
        ratios.append(gold.seconds / own.seconds)
        spent_s += gold.seconds + own.seconds
    return time_ratio_without_outliers(ratios)


def time_ratio_without_outliers(ratios: Sequence[float]) -> float:
    """Return the mean of the ratios that lie within three standard deviations of their mean, as R-VES does.

    Where all are equal none lies strictly within; that value is the mean then. Raises ValueError for no ratios.
    """
    if not ratios:
        raise ValueError("a mean needs at least one ratio")
    mean = sum(ratios) / len(ratios)
    deviation = (sum((ratio - mean) ** 2 for ratio in ratios) / len(ratios)) ** 0.5
    kept = [ratio for ratio in ratios if abs(ratio - mean) < 3 * deviation] or [mean]
    return sum(kept) / len(kept)


def _digest(text: str, num_bytes: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=num_bytes).hexdigest()


def _canonical_row(row: Row) -> Row:
    return tuple(map(_canonical, row)) if any(cell.__class__ is float for cell in row) else row


def _canonical(cell: Any) -> Any:
    """Return one and the same cell for cells that Python calls equal: SQLite returns only int and float as numbers."""
    return int(cell) if cell.__class__ is float and cell.is_integer() else cell
