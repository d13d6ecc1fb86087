"""Pairs of queries with the verdict whether they mean the same, made from golds and verified by execution."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sqlglot import exp

from floe.cluster.databases.dialect import DIALECT
from floe.cluster.graph_training.mutations import Surroundings, mutated
from floe.cluster.graph_training.rewrites import rewritten
from floe.cluster.messages import Candidate, Outcome, Question, ScoreRequest
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.whole_files import write_whole
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.graph.build import build
from floe.reward_service.graph.plan import DatabaseSchema, NoPlan, SyntaxFault, parsed, resolved, schema_of
from floe.reward_service.reading.contained_reader import ContainedReader
from floe.reward_service.reading.schema_reader import Schema
from floe.reward_service.scorer import Scorer

Kind = Literal["rewrite", "mutation", "other gold"]
VERSION = 2  # version of what this file makes: another one makes kept pairs anew
MAX_REWRITES = 4
TIME_LIMIT_S = 1.0  # CPU seconds of one query; a slower one makes no pair
WANTED: dict[Kind, Outcome] = {
    "rewrite": Outcome.MATCH,
    "mutation": Outcome.MISMATCH,
    "other gold": Outcome.MISMATCH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    database_id: str
    gold: str
    other: str
    kind: Kind
    how: tuple[str, ...]  # names of the rewrites and mutations between the two

    @property
    def is_equal(self) -> bool:
        return self.kind == "rewrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """Numbers of pairs of each kind to try for a gold. The seed decides all choices."""

    num_rewrites: int = 4
    num_mutations: int = 4
    num_others: int = 1
    seed: int = 1
    max_golds_per_database: int = 100_000


def make_pairs(
    questions: Sequence[Question], databases_dir: Path, plan: PairPlan, advance: Callable[[int], object]
) -> list[Pair]:
    """Return the pairs of all golds whose verdict is the wanted one; the others are dropped. Raises UserError."""
    section = RewardSection(semantics="strict", time_limit_s=TIME_LIMIT_S)
    found: list[Pair] = []
    with (
        closing(Scorer(databases_dir, section)) as scorer,
        closing(ContainedReader.for_schemas(databases_dir)) as reader,
    ):
        for database_id, golds in golds_by_database(questions, plan).items():
            columns = reader.schema(database_id)
            tried = _tried(database_id, golds, columns, plan)
            for gold, candidates in tried:
                found += _verified(scorer, gold, candidates)
                advance(1)
    return found


def golds_by_database(questions: Iterable[Question], plan: PairPlan) -> dict[str, list[str]]:
    """Return each gold once, in an order that the seed alone decides."""
    golds: dict[str, dict[str, None]] = defaultdict(dict)
    for question in questions:
        golds[question.database_id].update(dict.fromkeys(question.gold_sql))
    found = {}
    for database_id in sorted(golds):
        chosen = sorted(golds[database_id])
        random.Random(f"{plan.seed} {database_id}").shuffle(chosen)
        found[database_id] = chosen[: plan.max_golds_per_database]
    return found


def _tried(database_id: str, golds: Sequence[str], columns: Schema, plan: PairPlan) -> Iterator[tuple[str, list[Pair]]]:
    """Return the candidates of each gold that can be planned, not verified yet."""
    schema = schema_of(columns)
    plans: dict[str, exp.Query] = {}
    for gold in golds:
        try:
            build(gold, schema)
            plans[gold] = resolved(parsed(gold), schema.columns)
        except (SyntaxFault, NoPlan):
            continue
    texts = sorted({one.this for tree in plans.values() for one in tree.find_all(exp.Literal) if one.is_string})
    around = Surroundings({table.lower(): list(names) for table, names in columns.items()}, texts)
    for gold, tree in plans.items():
        rng = random.Random(f"{plan.seed} {database_id} {gold}")
        candidates: dict[str, tuple[Kind, tuple[str, ...]]] = {}
        for _ in range(plan.num_rewrites):
            if (made := rewritten(tree, rng, rng.randint(1, MAX_REWRITES))) is not None:
                candidates.setdefault(made[0].sql(DIALECT), ("rewrite", made[1]))
        for _ in range(plan.num_mutations):
            if (changed := mutated(tree, rng, around)) is not None:
                other = changed[0]
                names: tuple[str, ...] = (changed[1],)
                # Half of them look as different from the gold as equivalent queries do.
                if rng.random() < 0.5 and (made := rewritten(other, rng, rng.randint(1, MAX_REWRITES))) is not None:
                    other, names = made[0], (*names, *made[1])
                candidates.setdefault(other.sql(DIALECT), ("mutation", names))
        for other_gold in rng.sample([one for one in plans if one != gold], min(plan.num_others, len(plans) - 1)):
            candidates.setdefault(other_gold, ("other gold", ()))
        yield (
            gold,
            [
                Pair(database_id=database_id, gold=gold, other=other, kind=kind, how=how)
                for other, (kind, how) in candidates.items()
                if other != gold and _is_planned(other, schema)
            ],
        )


def _is_planned(sql: str, schema: DatabaseSchema) -> bool:
    try:
        build(sql, schema)
    except (SyntaxFault, NoPlan):
        return False
    return True


def _verified(scorer: Scorer, gold: str, candidates: Sequence[Pair]) -> list[Pair]:
    if not candidates:
        return []
    request = ScoreRequest(
        question_id="pair",
        database_id=candidates[0].database_id,
        gold_sql=(gold,),
        candidates=tuple(Candidate(sql=pair.other) for pair in candidates),
        correctness_only=True,
    )
    scores = scorer.score(request)
    return [pair for pair, score in zip(candidates, scores, strict=True) if score.outcome is WANTED[pair.kind]]


def pairs_key(questions: Sequence[Question], database_digests: Mapping[str, str], plan: PairPlan) -> str:
    """Return a name of the pairs by everything that decides them."""
    golds = sorted((question.database_id, *question.gold_sql) for question in questions)
    about = json.dumps([VERSION, golds, sorted(database_digests.items()), asdict(plan)])
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    """Read what `write_pairs` wrote."""
    # Split at "\n" only: SQL may hold the line separators of Unicode.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Pair(**{**record, "how": tuple(record["how"])}) for record in map(parsed_json, filter(None, lines))]
