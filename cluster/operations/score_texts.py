"""What `floe score` prints: a line of JSON for each prediction, or a table, and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from floe.cluster.evaluation.prediction_files import Prediction
from floe.cluster.messages import Outcome, Score


def json_line(prediction: Prediction, verdict: Score) -> str:
    line: dict[str, Any] = {
        "question_id": prediction.shown_id,
        "reward": verdict.reward,
        "outcome": verdict.outcome.value,
        "seconds": round(verdict.seconds, 6),
    }
    if verdict.terms:
        line["terms"] = {name: round(value, 6) for name, value in verdict.terms.items()}
    if verdict.message:
        line["message"] = verdict.message
    return json.dumps(line)


def verdict_table(predictions: Sequence[Prediction], scores: Sequence[Score]) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from floe.cluster.terminal.progress import make_console

    table = Table("question", "outcome", "reward", "seconds", "message", box=box.SIMPLE_HEAD, pad_edge=False)
    for prediction, verdict in zip(predictions, scores, strict=True):
        reward = "-" if verdict.reward is None else f"{verdict.reward:g}"
        cells = (str(prediction.shown_id), verdict.outcome.value, reward, f"{verdict.seconds:.3f}", verdict.message)
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    console = make_console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().removesuffix("\n")


def summary(scores: Sequence[Score], num_asked: int, num_questions: int, clock: str, elapsed_s: float) -> str:
    counts = Counter(one.outcome for one in scores)
    parts = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    rate = len(scores) / max(elapsed_s, 1e-9)
    lines = [
        f"Scored {len(scores)} predictions of {num_asked} questions: {parts or 'none'}.",
        f"That took {elapsed_s:.1f} s, {rate:.1f} scores/s.",
        f"SQL got {clock} UTC for the present time (--clock).",
    ]
    if num_unscored := sum(one.reward is None for one in scores):
        first = next(one.message for one in scores if one.reward is None) or "the gold query or the scoring failed"
        lines.append(f"No reward for {num_unscored} of them, the first because: {_printable(first.rstrip('.'))}.")
    lines.append(f"{num_questions - num_asked} of {num_questions} questions have no prediction.")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """SQL and its error messages may hold control characters and lone surrogates, which a terminal must not get."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
