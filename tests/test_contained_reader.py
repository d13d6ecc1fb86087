"""Reading what models write: costly text, faults of the parser and killed readers each affect one text alone."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.graph.build import BuiltQuery
from floe.reward_service.reading.contained_reader import ContainedReader
from floe.reward_service.reading.forms import Unreadable, decoded, encoded, reader_of
from floe.reward_service.reading.schema_reader import SchemaReader
from floe.reward_service.scorer import Scorer
from floe.reward_service.sql_text.sql_similarity import QueryParts
from floe.reward_service.verdict import DatabaseUnavailable
from tests.score_requests import make_database

SCHEMA = {"t": {"a": "INTEGER", "b": "TEXT"}, "u": {"a": "INTEGER"}}
SCRIPT = "CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE u (a INTEGER); INSERT INTO t VALUES (1, 'x');"
PLAIN = "SELECT a FROM t WHERE b = 'x'"
WITHOUT_ON = "SELECT t.a FROM t " + "JOIN u " * 26  # sqlglot takes 2^n steps for it
NESTED_BETWEEN = "SELECT a FROM t WHERE " + "a BETWEEN 1 AND (" * 25 + "2" + ")" * 25
LONG_NUMBER = f"SELECT 0x{'1' * 3600} FROM t"
LIMIT_S = 1.5  # seconds of CPU time: some ten times what a slow machine needs for a plain query


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir, "shop", script=SCRIPT)
    return databases_dir


@pytest.fixture(scope="module", params=["parts", "graph"])
def reader(request, folder):
    with closing(ContainedReader(request.param, folder, LIMIT_S, 2**30)) as made:
        yield made


@pytest.mark.parametrize("form", ["parts", "graph"])
@pytest.mark.parametrize(
    "sql", [PLAIN, "WITH c AS (SELECT a FROM t) SELECT a FROM c", "SELEC", "SELECT '\udfff' FROM t"]
)
def test_what_is_read_travels_unchanged(form, sql):
    read = reader_of(form, SCHEMA)(sql)
    assert decoded(encoded(read)) == read


def test_a_costly_text_is_its_own_failure_and_takes_no_other_along(reader):
    found = reader.read("shop", [PLAIN, WITHOUT_ON, f"{PLAIN} AND a > 0"])
    assert isinstance(found[PLAIN], QueryParts | BuiltQuery)
    assert isinstance(found[f"{PLAIN} AND a > 0"], QueryParts | BuiltQuery)
    failed = found[WITHOUT_ON]
    assert isinstance(failed, Unreadable) and failed.kind == "limit" and "1.5 s of CPU time" in failed.message
    assert reader.num_faults >= 1


@pytest.mark.parametrize("sql", [NESTED_BETWEEN, LONG_NUMBER])
def test_no_text_ends_the_program(reader, sql):
    assert set(reader.read("shop", [sql, PLAIN])) == {sql, PLAIN}


def test_a_reader_that_is_killed_reads_again(reader):
    reader.read("shop", ["SELECT 1"])
    os.kill(reader._process.child_pid, signal.SIGKILL)
    assert isinstance(reader.read("shop", ["SELECT b FROM t"])["SELECT b FROM t"], QueryParts | BuiltQuery)


def test_a_database_that_is_not_there_is_said(reader):
    with pytest.raises(DatabaseUnavailable):
        reader.read("absent", [PLAIN])


def test_a_schema_that_changed_is_read_again(folder, reader):
    path = make_database(folder, f"grows-{reader._settings.form}", script=SCRIPT)
    sql = "SELECT c FROM t"
    before = reader.read(path.parent.name, [sql])[sql]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE t ADD COLUMN c")
        connection.commit()
    assert reader.read(path.parent.name, [sql])[sql] != before


@pytest.mark.heavy
@pytest.mark.parametrize("design", [
    {"design": "reasoning_sql", "reasoning_judge_weight": 0},
    {"design": "graph_reward", "graph_outcome_weight": 0, "graph_stepwise_weight": 1},
])  # fmt: skip
def test_a_group_with_a_costly_candidate_is_scored(folder, design):
    section = RewardSection.model_validate({**design, "design_time_limit_s": LIMIT_S})
    candidates = tuple(Candidate(sql=sql) for sql in (PLAIN, WITHOUT_ON, "SELECT b FROM t"))
    request = ScoreRequest(question_id="q", database_id="shop", gold_sql=(PLAIN,), candidates=candidates)
    with closing(Scorer(folder, section)) as scorer:
        right, costly, wrong = scorer.score(request)
        assert scorer.stats().num_unread == 1
    assert right.reward > wrong.reward >= 0 and costly.reward is not None and costly.reward <= wrong.reward
    masked = ScoreRequest(question_id="q", database_id="shop", gold_sql=(WITHOUT_ON,), candidates=candidates[::2])
    with closing(Scorer(folder, section)) as scorer:
        scores = scorer.score(masked)
    if design["design"] == "graph_reward":  # the other runs the gold, which gives a different answer
        assert [score.outcome for score in scores] == [Outcome.GOLD_FAILED] * 2


@pytest.mark.parametrize("design", [
    {"design": "reasoning_sql", "reasoning_judge_weight": 0},
    {"design": "graph_reward", "graph_outcome_weight": 0, "graph_stepwise_weight": 1},
])  # fmt: skip
def test_a_query_that_the_parser_trips_over_is_named_and_counted(folder, design):
    section = RewardSection.model_validate({**design, "design_time_limit_s": LIMIT_S})
    long_number = "SELECT 0x" + "7" * 4400
    candidates = (Candidate(sql=long_number), Candidate(sql="SELECT b FROM t"))
    request = ScoreRequest(question_id="q", database_id="shop", gold_sql=(PLAIN,), candidates=candidates)
    with closing(Scorer(folder, section)) as scorer:
        tripped, plain = scorer.score(request)
        assert scorer.stats().num_unread == 1
    assert tripped.reward is not None and tripped.reward < plain.reward
    assert "hex literal too big" in tripped.message or "could not read it: ValueError" in tripped.message
    assert plain.message == ""


@pytest.mark.heavy
def test_a_schema_is_read_in_the_child_too_and_one_that_never_ends_is_said(folder):
    views = ["CREATE VIEW v0 AS SELECT b FROM t"]
    views += [f"CREATE VIEW v{n} AS SELECT a.b FROM v{n - 1} a, v{n - 1} c" for n in range(1, 40)]
    make_database(folder, "doubling", script=";\n".join([SCRIPT.rstrip().rstrip(";"), *views, ""]))
    with closing(ContainedReader("parts", folder, LIMIT_S, 2**30)) as reader:
        assert reader.schema("shop") == SchemaReader(folder).schema("shop")
        try:
            assert "t" in reader.schema("doubling")
        except UserError as fault:
            assert "CPU time" in str(fault)
        with pytest.raises(UserError, match="absent"):
            reader.schema("absent")
        assert reader.schema("shop")
