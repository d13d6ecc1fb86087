"""`floe bench hacking`: what constant policies earn under every reward design, compared with the gold.

It takes up to NUM_DATABASES databases and up to NUM_QUESTIONS questions of each. The commonest gold of a database is
the one whose result most golds of that sample have too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from floe.actors.questions.question_sets import SPLITS, QuestionSets, load_question_sets
from floe.cluster.bench.reward.constant_policies import commonest, replies
from floe.cluster.messages import Candidate, Outcome, Question, ScoreRequest
from floe.cluster.terminal.progress import make_console, progress_bar
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.reading.contained_reader import ContainedReader
from floe.reward_service.scorer import Scorer

NUM_DATABASES, NUM_QUESTIONS = 40, 12
NO_JUDGE = {"design": "reasoning_sql", "reasoning_judge_weight": 0.0}
STEPWISE = {"design": "graph_reward", "graph_outcome_weight": 0.0, "graph_stepwise_weight": 1.0}
DESIGNS: Mapping[str, Mapping[str, Any]] = {
    "arctic, bird": {},
    "arctic, spider": {"semantics": "spider"},
    "arctic, strict": {"semantics": "strict"},
    "arctic with its floor": {"arctic_format_floor": True},
    "sql_r1, code": {"design": "sql_r1"},
    "sql_r1, paper": {"design": "sql_r1", "sql_r1_variant": "paper"},
    "reasoning_sql": NO_JUDGE,
    "reasoning_sql, sum": NO_JUDGE | {"reasoning_partial_terms": "sum"},
    "graph, stepwise": STEPWISE,
    "graph, stepwise as published": STEPWISE | {"graph_stepwise_variant": "published"},
}
TIME_LIMIT_S = 1.0  # a query of every table joins them all
Means = dict[str, dict[str, float]]  # design -> policy -> mean reward


def bench_hacking(config: RunConfig, as_json: bool) -> None:
    """Print the table, or JSON. Raises UserError for data that can't be read."""
    sets = load_question_sets(config.data, config.run.home_dir / "demo")
    by_database = _sampled(sets)
    asked = _asked(by_database, sets.databases_dir)
    designs = dict(DESIGNS)
    if config.reward.graph_network is not None:
        designs["graph, network"] = {"design": "graph_reward", "graph_network": config.reward.graph_network}
    means = mean_rewards(asked, sets.databases_dir, sections_of(designs))
    if as_json:
        print(json.dumps({"questions": len(asked), "databases": len(by_database), "mean_reward": means}, indent=2))
        return
    policies = list(next(iter(means.values())))
    title = f"Mean reward, {len(asked)} questions of {len(by_database)} databases"
    table = Table("design", *policies, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for design, found in means.items():
        table.add_row(design, *(f"{found[policy]:.3f}" for policy in policies))
    make_console().print(table)


def sections_of(designs: Mapping[str, Mapping[str, Any]]) -> dict[str, RewardSection]:
    """Return the reward section of each design, with the time limit of this bench."""
    return {
        name: RewardSection.model_validate({"time_limit_s": TIME_LIMIT_S, **changes})
        for name, changes in designs.items()
    }


def constant_rewards(sets: QuestionSets, section: RewardSection, plugin_folder: Path | None) -> dict[str, float]:
    """Return what the gold and each constant policy earn under one reward; nothing where no group carries a reward."""
    asked = _asked(_sampled(sets), sets.databases_dir)
    limited = section.model_copy(update={"time_limit_s": min(TIME_LIMIT_S, section.time_limit_s)})
    return mean_rewards(asked, sets.databases_dir, {section.design: limited}, plugin_folder)[section.design]


def mean_rewards(
    asked: Sequence[tuple[Question, Mapping[str, str]]],
    databases_dir: Path,
    designs: Mapping[str, RewardSection],
    plugin_folder: Path | None = None,
) -> Means:
    """Return what each policy earns; a group that carries no reward (its gold fails, say) is left out."""
    means: Means = {}
    with progress_bar("Scoring", len(asked) * len(designs)) as advance:
        for name, section in designs.items():
            earned: defaultdict[str, list[float]] = defaultdict(list)
            with closing(Scorer(databases_dir, section, plugin_folder=plugin_folder)) as scorer:
                for question, texts in asked:
                    candidates = tuple(Candidate(completion=text) for text in texts.values())
                    for policy, score in zip(texts, scorer.score(_request(question, candidates)), strict=True):
                        if score.reward is not None:
                            earned[policy].append(score.reward)
                    advance(1)
            means[name] = {policy: sum(values) / len(values) for policy, values in earned.items()}
    return means


def _sampled(sets: QuestionSets) -> dict[str, list[Question]]:
    by_database: defaultdict[str, list[Question]] = defaultdict(list)
    for split in SPLITS:
        for question in sets.split(split):
            by_database[question.database_id].append(question)
    chosen = list(by_database.items())[:NUM_DATABASES]
    return {
        database_id: questions[:: max(1, len(questions) // NUM_QUESTIONS)][:NUM_QUESTIONS]
        for database_id, questions in chosen
    }


def _asked(
    by_database: Mapping[str, Sequence[Question]], databases_dir: Path
) -> list[tuple[Question, Mapping[str, str]]]:
    asked = []
    with (
        closing(Scorer(databases_dir, RewardSection())) as scorer,
        closing(ContainedReader.for_schemas(databases_dir)) as reader,
    ):
        for database_id, questions in by_database.items():
            golds = [one.gold_sql[0] for one in questions]
            candidates = tuple(Candidate(sql=sql) for sql in golds)
            num_equal = [0] * len(golds)
            for question in questions:
                for number, score in enumerate(scorer.score(_request(question, candidates))):
                    num_equal[number] += score.outcome is Outcome.MATCH
            own = commonest(golds, num_equal)
            asked += [(one, replies(one, reader.schema(database_id), own)) for one in questions]
    return asked


def _request(question: Question, candidates: tuple[Candidate, ...]) -> ScoreRequest:
    return ScoreRequest(
        question_id=question.question_id,
        database_id=question.database_id,
        gold_sql=question.gold_sql,
        question=question.text,
        evidence=question.evidence,
        candidates=candidates,
    )
