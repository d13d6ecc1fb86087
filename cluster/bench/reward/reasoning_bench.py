"""`floe bench reasoning`: how often, under Reasoning-SQL's plain sum, a wrong query outscores a right one.

Queries of a question are its golds, the same in other words, with one thing changed, and the golds of other questions
of its database; the executor says which are right. A judge is not asked: what its errors cost is computed for each
difference between the grades that it gives to the wrong query and to the right one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from rich.table import Table

from floe.actors.questions.question_sets import SPLITS, QuestionSets, load_question_sets
from floe.cluster.bench.reward.query_variants import mutated, rewritten
from floe.cluster.messages import Candidate, Outcome, Question, ScoreRequest
from floe.cluster.terminal.progress import make_console, progress_bar
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer import Scorer

NUM_QUESTIONS = 500
NUM_NEIGHBOURS = 5
GRADE_DIFFERENCES = (0.0, 0.25, 0.5, 0.75, 1.0)  # lead of the wrong query's grade over the right one's


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Rewards of one question's right and wrong queries, without judge and format."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]

    @property
    def num(self) -> int:
        return len(self.right) * len(self.wrong)

    def num_outscored(self, lead: float) -> int:
        """Return the pairs whose wrong query earns more, given that judge and format put it ahead by `lead`."""
        return sum(wrong + lead > right for right in self.right for wrong in self.wrong)


def bench_reasoning(config: RunConfig, as_json: bool) -> None:
    """Print the table, or JSON. Raises UserError for data that can't be read."""
    sets = load_question_sets(config.data, config.run.home_dir / "demo")
    chosen = {"design": "reasoning_sql", "reasoning_judge_weight": 0.0, "reasoning_partial_terms": "sum"}
    section = RewardSection.model_validate(config.reward.model_dump() | chosen)
    pairs = list(_all_pairs(sets, section))
    weight, format_weight = config.reward.reasoning_judge_weight, config.reward.reasoning_format_weight
    rows = [
        {
            "grade_difference": difference,
            "same_format": sum(one.num_outscored(weight * difference) for one in pairs),
            "right_one_without_format": sum(one.num_outscored(weight * difference + format_weight) for one in pairs),
        }
        for difference in GRADE_DIFFERENCES
    ]
    num_pairs = sum(one.num for one in pairs)
    if as_json:
        print(json.dumps({"questions": len(pairs), "pairs": num_pairs, "outscored": rows}, indent=2))
        return
    title = f"{num_pairs:,} pairs of a right and a wrong query, of {len(pairs)} questions"
    table = Table("judge's error", "same format", "right one without format", title=title, title_justify="left")
    for row in rows:
        counts = (row["same_format"], row["right_one_without_format"])
        shares = [f"{count:,} ({count / max(1, num_pairs):.2%})" for count in counts]
        table.add_row(f"{row['grade_difference']:g}", *shares)
    make_console().print(table)


def _all_pairs(sets: QuestionSets, section: RewardSection) -> Iterator[Pairs]:
    questions = [one for name in SPLITS for one in sets.split(name)]
    by_database: dict[str, list[Question]] = {}
    for one in questions:
        by_database.setdefault(one.database_id, []).append(one)
    sample = questions[:: max(1, len(questions) // NUM_QUESTIONS)][:NUM_QUESTIONS]
    with (
        closing(Scorer(sets.databases_dir, section)) as scorer,
        progress_bar("Questions", len(sample), shown=True) as advance,
    ):
        for question in sample:
            pairs = _pairs(scorer, question, by_database[question.database_id])
            advance(1)
            if pairs.num:
                yield pairs


def _pairs(scorer: Scorer, question: Question, of_database: Sequence[Question]) -> Pairs:
    place = of_database.index(question)
    turned = [*of_database[place + 1 :], *of_database[:place]]
    others = [sql for one in turned[:: max(1, len(turned) // NUM_NEIGHBOURS)][:NUM_NEIGHBOURS] for sql in one.gold_sql]
    golds = question.gold_sql
    varied = [text for sql in golds for text in (*rewritten(sql), *mutated(sql))]
    request = ScoreRequest(
        question_id=question.question_id,
        database_id=question.database_id,
        gold_sql=golds,
        candidates=tuple(Candidate(sql=sql) for sql in dict.fromkeys((*golds, *varied, *others))),
    )
    scores = [one for one in scorer.score(request) if one.reward is not None]
    return Pairs(
        right=tuple(one.reward or 0.0 for one in scores if one.outcome is Outcome.MATCH),
        wrong=tuple(one.reward or 0.0 for one in scores if one.outcome is not Outcome.MATCH),
    )
