"""The page's data for its script, as plain values for JSON: each text once, within a limit of bytes.

In it `groups` and `changes` refer to `questions`, `results` and `schemas` by index or id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floe.cluster.messages import Outcome, QueryResult, Question
from floe.cluster.report_page.evaluation_views import ChangedQuestion, Changes
from floe.cluster.report_page.rollout_sample import kind_of
from floe.cluster.report_page.same_sql import GroupRows, SameSql, same_sql
from floe.cluster.report_page.script_json import script_json

MAX_GROUPS_BYTES = 9_000_000  # bytes of the groups with their questions and results
MAX_SCHEMA_CHARS = 20_000
MAX_SCHEMAS_BYTES = 2_000_000
MAX_TEXT_CHARS = 3_000  # characters of a question, a SQL text, a completion or a message

Results = Mapping[tuple[str, str], QueryResult]  # by database id and SQL
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownGroup:
    """A group on the page. `question` is None where it is missing; `rank` says who goes first where room is short."""

    rows: GroupRows
    rank: int
    question: Question | None


def statements_of_groups(groups: Iterable[ShownGroup]) -> list[tuple[str, str]]:
    """Return golds, and what executed in training: the rest has its message."""
    statements = []
    for group in groups:
        if group.question is not None:
            texts = [*group.question.gold_sql, *(c.sql for c in group.rows.candidates if c.outcome.executes and c.sql)]
            statements += [(group.rows.database_id, sql) for sql in texts]
    return list(dict.fromkeys(statements))


def statements_of_changes(changes: Changes, questions: Mapping[str, Question]) -> list[tuple[str, str]]:
    """Return golds and answers of the questions that are available."""
    statements = []
    for one in (*changes.gained, *changes.lost):
        if one.question_id in questions:
            answers = [sql for sql, outcome in (one.before, one.after) if sql is not None and outcome.executes]
            statements += [(one.database_id, sql) for sql in (*questions[one.question_id].gold_sql, *answers)]
    return list(dict.fromkeys(statements))


class BrowserData:
    """Collects what is shown; `values` is what goes to the page."""

    def __init__(self, results: Results, max_groups_bytes: int = MAX_GROUPS_BYTES) -> None:
        self._results = results
        self._max_bytes = max_groups_bytes
        self._num_bytes = 0
        self._questions: dict[tuple[str, str, str], int] = {}
        self._shown_results: dict[tuple[str, str], int] = {}
        self._groups: list[Fields] = []
        self._changes: Fields = {"gained": [], "lost": []}
        self._schemas: dict[str, str] = {}
        self._values: dict[str, list[Fields]] = {"questions": [], "results": []}
        self.num_left_out = 0  # groups left out for want of room
        self.num_candidates = 0  # those of the groups that are shown

    def add_groups(self, groups: Sequence[ShownGroup]) -> None:
        """Add groups, lower ranks first, while there is room; they are shown in the order of the run."""
        shown = []
        for group in sorted(groups, key=lambda one: (one.rank, one.rows.step, one.rows.group_index)):
            if self._num_bytes >= self._max_bytes:
                self.num_left_out += 1
                continue
            shown.append((group.rows.step, group.rows.group_index, self._counted(self._group(group))))
            self.num_candidates += len(group.rows.candidates)
        self._groups = [fields for _, _, fields in sorted(shown, key=lambda one: one[:2])]

    def add_changes(self, changes: Changes, questions: Mapping[str, Question]) -> None:
        for name, changed in (("gained", changes.gained), ("lost", changes.lost)):
            self._changes[name] = [self._change(one, questions.get(one.question_id)) for one in changed]

    def add_schemas(self, schemas: Mapping[str, str]) -> None:
        """Add schemas by database id; those beyond the room are left out."""
        num_bytes = 0
        for database_id, text in schemas.items():
            cut = _cut(text, MAX_SCHEMA_CHARS)
            num_bytes += len(cut.encode("utf-8", "backslashreplace"))
            if num_bytes <= MAX_SCHEMAS_BYTES:
                self._schemas[database_id] = cut

    def values(self) -> Fields:
        return {**self._values, "groups": self._groups, "changes": self._changes, "schemas": self._schemas}

    def _group(self, group: ShownGroup) -> Fields:
        rows = group.rows
        outcomes: dict[Outcome, int] = {}
        for candidate in rows.candidates:
            outcomes[candidate.outcome] = outcomes.get(candidate.outcome, 0) + 1
        return {
            "step": rows.step,
            "question": self._question(rows.question_id, rows.database_id, rows.question, group.question),
            "kind": kind_of(outcomes).value,
            "adapter": rows.adapter_version,
            "outcomes": {outcome.value: count for outcome, count in outcomes.items()},
            "candidates": [self._same_sql(one, rows.database_id) for one in same_sql(rows.candidates)],
        }

    def _same_sql(self, one: SameSql, database_id: str) -> Fields:
        fields: Fields = {
            "outcome": one.outcome.value,
            "reward": one.reward,
            "samples": list(one.samples),
            "tokens": round(one.mean_tokens, 1),
            "truncated": one.num_truncated,
            "sql": None if one.sql is None else _cut(one.sql),
            "result": None if one.sql is None else self._result(database_id, one.sql),
        }
        if one.message:
            fields["message"] = _cut(one.message)
        if one.sql is None or one.completion.strip().rstrip("; \n") != one.sql:
            fields["completion"] = _cut(one.completion)
        return fields

    def _change(self, one: ChangedQuestion, question: Question | None) -> Fields:
        def answer(sql: str | None, outcome: Outcome) -> Fields:
            result = None if sql is None else self._result(one.database_id, sql)
            return {"sql": None if sql is None else _cut(sql), "outcome": outcome.value, "result": result}

        return {
            "question": self._question(one.question_id, one.database_id, one.text, question),
            "before": answer(*one.before),
            "after": answer(*one.after),
        }

    def _question(self, question_id: str, database_id: str, text: str, known: Question | None) -> int:
        key = (question_id, database_id, text)
        if key not in self._questions:
            self._questions[key] = len(self._questions)
            golds = () if known is None else known.gold_sql
            fields = {
                "id": question_id,
                "database": database_id,
                "text": _cut(text),
                "golds": [{"sql": _cut(sql), "result": self._result(database_id, sql)} for sql in golds],
            }
            if known is not None and known.evidence:
                fields["evidence"] = _cut(known.evidence)
            self._values["questions"].append(self._counted(fields))
        return self._questions[key]

    def _result(self, database_id: str, sql: str) -> int | None:
        key = (database_id, sql)
        result = self._results.get(key)
        if result is None:
            return None
        if key not in self._shown_results:
            self._shown_results[key] = len(self._shown_results)
            self._values["results"].append(self._counted(_result_fields(result)))
        return self._shown_results[key]

    def _counted(self, fields: Fields) -> Fields:
        self._num_bytes += len(script_json(fields).encode())
        return fields


def _result_fields(result: QueryResult) -> Fields:
    if not result.outcome.executes:
        return {"fault": f"{result.outcome.value}: {result.message}"}
    return {
        "columns": list(result.columns),
        "rows": [list(row) for row in result.rows],
        "num_rows": result.num_rows,
        "num_columns": result.num_columns,
    }


def _cut(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    return text if len(text) <= max_chars else f"{text[:max_chars]} … [{len(text) - max_chars} characters more]"
