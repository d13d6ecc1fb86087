"""A small database and the calls that the tests of the scorer share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.configs.schema import RewardSection
from floe.reward_service.scorer import Scorer

LIMIT_S = 0.3
GOLD = "SELECT name FROM emp"
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT count(*) FROM r"
ONE_OPCODE = "SELECT length(ltrim(printf('%.*c',700000,'k'),printf('%.*c',70000,'m')||'k'))"
FIXTURE = """
CREATE TABLE emp(id INTEGER PRIMARY KEY, name TEXT, dept TEXT);
INSERT INTO emp VALUES (1,'Ann','it'),(2,'Bob','hr'),(3,'Cy','it');
CREATE TABLE odd(x);
INSERT INTO odd VALUES (CAST(x'6162ff63' AS TEXT)), ('a' || char(0) || 'b'), (x'00ff'), (9e999),
                       (9223372036854775807), (NULL);
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words VALUES ('red fish'), ('blue fish');
"""


def make_database(folder: Path, database_id: str = "emp", content: str = "", *, script: str = FIXTURE) -> Path:
    """Make `<folder>/<id>/<id>.sqlite`; with `content`, that name replaces the second one."""
    path = folder / database_id / f"{content or database_id}.sqlite"
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


MakeScorer = Callable[..., Scorer]


def new_scorer(databases_dir: Path, wall_limit_s: float | None = None, **settings: object) -> Scorer:
    section = RewardSection.model_validate({"time_limit_s": LIMIT_S, **settings})
    return Scorer(databases_dir, section, wall_limit_s)


def score_request(gold: str | tuple[str, ...], *sqls: str, database_id: str = "emp") -> ScoreRequest:
    golds = (gold,) if isinstance(gold, str) else gold
    candidates = tuple(Candidate(sql=sql) for sql in sqls)
    return ScoreRequest(question_id="q", database_id=database_id, gold_sql=golds, candidates=candidates)


def score(scorer: Scorer, gold: str | tuple[str, ...], *sqls: str, database_id: str = "emp") -> tuple[Score, ...]:
    return scorer.score(score_request(gold, *sqls, database_id=database_id))


def outcomes(scores: tuple[Score, ...]) -> list[Outcome]:
    return [each.outcome for each in scores]
