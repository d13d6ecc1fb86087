"""Predictions in the official formats of Spider and BIRD (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from floe.reward_service.sql_text.statement import one_line

NO_ANSWER = "SELECT 'no answer'"  # Spider's evaluator takes an empty line for the end of a dialogue
BIRD_SEPARATOR = "\t----- bird -----\t"

SqlById = Mapping[str, str | None]  # question id to the greedy answer's SQL, None where it has none


def spider_submission(question_ids: Sequence[str], sql_by_id: SqlById) -> tuple[str, int]:
    """Return one SQL per line, in the order of the questions file (taoyds/spider, evaluation.py).

    The second value counts the answers that a line can't hold, since a quoted text in them has a line break or a tab.
    """
    lines = [(sql, one_line(sql)) for question_id in question_ids for sql in [sql_by_id[question_id] or NO_ANSWER]]
    return "".join(f"{line or NO_ANSWER}\n" for _, line in lines), sum(line is None for _, line in lines)


def bird_submission(asked: Sequence[tuple[str, str]], sql_by_id: SqlById) -> str:
    """Return JSON of index to SQL, separator and database, in the questions file's order (bird-bench, evaluation.py).

    `asked` are pairs of question and database id.
    """
    lines = {
        str(index): f"{sql_by_id[question_id] or NO_ANSWER}{BIRD_SEPARATOR}{database_id}"
        for index, (question_id, database_id) in enumerate(asked)
    }
    return json.dumps(lines, indent=4) + "\n"
