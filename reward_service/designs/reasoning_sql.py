"""The reward of Reasoning-SQL (arXiv 2503.23157, section on the reward): a weighted sum of six terms, each 0 to 1.

    execution  3   1 where the result is the gold's
    judge      2   a language model's grade by a rubric
    syntax     1   1 where the query runs
    schema     1   Jaccard similarity of the tables and columns that query and gold use
    ngram      1   Jaccard similarity of the n-grams of their tokens
    format     1   1 where the reply has its tags

Range 0 to 9. `reward.reasoning_partial_terms`: with `full_when_right` a right query gets judge, syntax, schema and
n-grams in full, so that with these weights no wrong one (at most 6) earns as much as a right one (at least 8); with
`sum` each term adds its own value, and a right query in other words can earn less than a wrong one in the gold's words.

The publication's code is not public. Not known, and therefore chosen here: whether a right query gets the partial
terms; the judge and its rubric (`judge_protocol.RUBRIC`, our own); the comparator (`reward.semantics`); n, which is 2;
what an item is: a table, or a column as table.column; `*` stands for every column. Items and tokens are those of the
query resolved on the database's schema: aliases of tables are replaced, those of results dropped, case and layout don't
count (`sql_similarity`). The tags are those of SQL-R1: `<think>`, `</think>`, `<answer>`, `</answer>`, once each, in
this order, and a fenced `sql` block in the answer; bare SQL earns no format point.

Of several golds the best similarity counts; the judge sees them all. A query that can't be parsed, or is too long for
that (`sql_similarity.MAX_CHARS`), has no similarity. The judge is not asked about a reply without a query or with one
that is too long, whose grade is 0, nor, with `full_when_right`, about a right query. A judge that gives no usable
answer leaves the whole group without a reward: a 0 instead would teach something false.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from floe.cluster.messages import Outcome
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup, Reward
from floe.reward_service.designs.sql_r1 import length_term
from floe.reward_service.judge.judge_protocol import JudgedQuery
from floe.reward_service.reading.forms import FAULTS, ReadQueries, Unreadable, note_of
from floe.reward_service.sql_text.sql_similarity import MAX_CHARS, QueryParts, jaccard
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable
from floe.reward_service.verdict import DatabaseUnavailable

NOT_A_QUERY = (Outcome.NO_SQL, Outcome.REJECTED)

AskJudge = Callable[[Sequence[JudgedQuery]], Sequence[float]]


class ReasoningSql:
    """`ask_judge` raises GroupUnscorable; it is None exactly where the judge's weight is 0."""

    def __init__(self, section: RewardSection, read: ReadQueries, ask_judge: AskJudge | None) -> None:
        self._section = section
        names = ("execution", "judge", "syntax", "schema", "ngram", "format")
        self._weights = {name: float(getattr(section, f"reasoning_{name}_weight")) for name in names}
        self._grants_all = section.reasoning_partial_terms == "full_when_right"
        self._read = read
        self._ask_judge = ask_judge

    def __call__(self, group: JudgedGroup) -> list[Reward]:
        grades = self._grades(group)
        similarities, notes = self._similarities(group)
        return [
            self._reward(one, grades.get(one.sql, 0.0), similarities.get(one.sql))._replace(note=notes.get(one.sql, ""))
            for one in group.candidates
        ]

    def _reward(self, one: JudgedCandidate, grade: float, similarity: tuple[float, float] | None) -> Reward:
        is_right = one.outcome is Outcome.MATCH
        schema, ngram = similarity or (0.0, 0.0)
        if is_right and self._grants_all:
            grade = schema = ngram = 1.0
        section = self._section
        terms = {
            "execution": section.reasoning_execution_weight * is_right,
            "judge": section.reasoning_judge_weight * grade,
            "syntax": section.reasoning_syntax_weight * one.outcome.executes,
            "schema": section.reasoning_schema_weight * schema,
            "ngram": section.reasoning_ngram_weight * ngram,
            "format": section.reasoning_format_weight * (length_term(one.completion or "") is not None),
        }
        return Reward(sum(terms.values()), terms, weights=self._weights)

    def _grades(self, group: JudgedGroup) -> dict[str | None, float]:
        """Return the judge's grades, 0 to 1, by SQL, of the queries that it is asked about. Raises GroupUnscorable."""
        if self._ask_judge is None:
            return {}
        asked = [sql for one in group.candidates if (sql := self._sql_to_judge(one)) is not None]
        if not asked:
            return {}
        queries = [JudgedQuery.of(group.question, group.evidence, group.gold_sql, sql) for sql in asked]
        return dict(zip(asked, self._ask_judge(queries), strict=True))

    def _sql_to_judge(self, one: JudgedCandidate) -> str | None:
        if one.sql is None or one.outcome in NOT_A_QUERY or len(one.sql) > MAX_CHARS:
            return None
        return None if one.outcome is Outcome.MATCH and self._grants_all else one.sql

    def _similarities(self, group: JudgedGroup) -> tuple[dict[str | None, tuple[float, float]], dict[str | None, str]]:
        """Return by SQL the best similarity of schema items and of n-grams over the golds, and the note for the log.

        Raises GroupUnscorable and GoldUnusable.
        """
        texts = [one.sql for one in group.candidates if one.sql is not None and not self._needs_no_similarity(one)]
        try:
            forms = self._read(group.database_id, [*group.gold_sql, *texts])
        except DatabaseUnavailable as error:
            raise GroupUnscorable(str(error)) from error
        golds = [form for sql in group.gold_sql if isinstance(form := forms[sql], QueryParts)]
        faults = [form for sql in group.gold_sql if isinstance(form := forms[sql], Unreadable) and form.kind in FAULTS]
        if not golds and faults:
            raise GoldUnusable(f"no gold can be read: {faults[0].message}")
        found: dict[str | None, tuple[float, float]] = {}
        found |= {sql: similarity(form, golds) for sql in texts if isinstance(form := forms[sql], QueryParts)}
        return found, {sql: note_of(forms[sql]) for sql in texts}

    def _needs_no_similarity(self, one: JudgedCandidate) -> bool:
        return one.outcome in NOT_A_QUERY or (one.outcome is Outcome.MATCH and self._grants_all)


def similarity(parts: QueryParts, golds: Sequence[QueryParts]) -> tuple[float, float]:
    """Return Jaccard similarities of schema items and of n-grams, the best over the golds each; 0 without any."""
    return (
        max((jaccard(parts.schema_items, gold.schema_items) for gold in golds), default=0.0),
        max((jaccard(parts.ngrams, gold.ngrams) for gold in golds), default=0.0),
    )
