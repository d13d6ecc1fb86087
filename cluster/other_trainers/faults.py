"""What no completion can be blamed for: golds that fail, and faults of the machine (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from floe.cluster.messages import Outcome, Score
from floe.cluster.other_trainers.examples import Example
from floe.configs.errors import UserError

MAX_SHOWN = 160  # characters of a query or question


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldFault:
    """A gold query that can't be run, as `SqlReward.check` finds it.

    `kind` is `gold` where the query is to blame, and `database` where its database can't be opened or read: such a row
    is not to be dropped, since the file may be right for all its other queries.
    """

    kind: Literal["gold", "database"]
    row: int  # of the dataset, from 0
    db_id: str
    gold_sql: str
    message: str
    has_other_gold: bool  # another gold of the row runs, so that its completions get rewards all the same

    def __str__(self) -> str:
        return f"row {self.row}, database {self.db_id!r}: {self.message} ({_shown(self.gold_sql)})"


def refuse_faults(examples: Sequence[Example], scores: Sequence[Score], remedy: str) -> None:
    """Raise UserError for the first completion without a reward; `remedy` ends the sentence, as an alternative."""
    for example, score in zip(examples, scores, strict=True):
        if score.reward is not None:
            continue
        asked = f"The question {_shown(example.question)!r} " if example.question else "A question "
        about = f"{asked}over database {example.db_id!r} with the gold query {_shown(example.gold_sql[0])!r}"
        why = score.message.rstrip(".") or score.outcome.value
        if score.outcome is Outcome.GOLD_FAILED:
            what_to_do = "correct the query or drop the row (SqlReward.check names all such rows)"
        else:
            what_to_do = "that is no fault of the completion: fix it and go on from the trainer's last checkpoint"
        raise UserError(f"{about} got no reward ({why}): {what_to_do}{remedy}.")


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
