"""The scorer with real databases and real executor children."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.reward_service.sandbox.databases import MAX_OPEN
from floe.reward_service.scorer import Scorer
from tests.score_requests import ENDLESS, GOLD, ONE_OPCODE, MakeScorer, make_database, new_scorer, outcomes, score


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    databases_dir = tmp_path_factory.mktemp("databases")
    make_database(databases_dir)
    return databases_dir


@pytest.fixture(scope="module")
def make_scorer() -> Iterator[MakeScorer]:
    with ExitStack() as stack:

        def make(*arguments: Any, **settings: Any) -> Scorer:
            scorer = new_scorer(*arguments, **settings)
            stack.callback(scorer.close)
            return scorer

        yield make


@pytest.fixture(scope="module")
def scorer(folder: Path, make_scorer: MakeScorer) -> Scorer:
    return make_scorer(folder)


EXPECTED = {
    GOLD: Outcome.MATCH,
    "SELECT name FROM emp ORDER BY 1 DESC;": Outcome.MATCH,
    "SELECT dept FROM emp": Outcome.MISMATCH,
    "SELEC name": Outcome.SYNTAX_ERROR,
    "SELECT name FROM": Outcome.SYNTAX_ERROR,
    "SELECT 1\0": Outcome.SYNTAX_ERROR,
    "SELECT '\udfff'": Outcome.SYNTAX_ERROR,
    "SELECT nope FROM emp": Outcome.RUNTIME_ERROR,
    "SELECT * FROM nowhere": Outcome.RUNTIME_ERROR,
    "SELECT abs(-9223372036854775808)": Outcome.RUNTIME_ERROR,
    "SELECT 'a' REGEXP 'a'": Outcome.RUNTIME_ERROR,
    "SELECT name FROM emp WHERE id = ?": Outcome.RUNTIME_ERROR,
    "SELECT name FROM emp WHERE id = :id": Outcome.RUNTIME_ERROR,
    "SELECT name FROM emp WHERE id = @id OR id = $1 OR id = #x": Outcome.RUNTIME_ERROR,
    "SELECT ?99999": Outcome.RUNTIME_ERROR,
    f"{GOLD};;": Outcome.MATCH,
    f"{GOLD}; ; -- done\n;": Outcome.MATCH,
    f"{GOLD} WHERE " + " AND ".join(f"id <> {number}" for number in range(10, 900)): Outcome.MATCH,
    f"{GOLD} WHERE id < 0" + f" UNION ALL {GOLD} WHERE id < 0" * 400 + f" UNION ALL {GOLD}": Outcome.MATCH,
    f"{GOLD} WHERE name NOT LIKE '{'q' * 20_000}%'": Outcome.MATCH,
    "SELECT length(zeroblob(5000000))": Outcome.MISMATCH,
    "DELETE FROM emp": Outcome.REJECTED,
    "WITH x AS (SELECT 1) DELETE FROM emp": Outcome.REJECTED,
    "SELECT 1; SELECT 2": Outcome.REJECTED,
    "SELECT load_extension('x')": Outcome.REJECTED,
    "SELECT * FROM pragma_table_info('emp')": Outcome.REJECTED,
    "": Outcome.REJECTED,
    ENDLESS: Outcome.TIMEOUT,
    ONE_OPCODE: Outcome.TIMEOUT,
    "SELECT hex(zeroblob(900000))": Outcome.TOO_LARGE,
    "SELECT '" + "a" * 200_000 + "'": Outcome.TOO_LARGE,
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 900) SELECT n FROM r": Outcome.TOO_LARGE,
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r LIMIT 9) SELECT zeroblob(9999) FROM r": (
        Outcome.TOO_LARGE
    ),
}


def test_each_outcome_in_order_with_its_reward(folder: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(folder, max_rows=500, max_result_bytes=50_000)
    scores = score(scorer, GOLD, *EXPECTED)
    assert dict(zip(EXPECTED, outcomes(scores), strict=True)) == EXPECTED
    for sql, each in zip(EXPECTED, scores, strict=True):
        assert each.reward == {Outcome.MATCH: 1.0, Outcome.MISMATCH: 0.1}.get(each.outcome, 0.0)
        assert each.sql == sql
        assert each.message or each.outcome.executes
        each.message.encode()
    shuffled = list(EXPECTED)
    random.Random(1).shuffle(shuffled)
    assert outcomes(score(scorer, GOLD, *shuffled)) == [EXPECTED[sql] for sql in shuffled]


def test_completions_go_through_extraction(scorer: Scorer) -> None:
    texts = ["<think>SELECT 0</think>\n```sql\nSELECT name FROM emp;\n```", "No idea."]
    request = ScoreRequest(
        question_id="q",
        database_id="emp",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(completion=text) for text in texts),
    )
    scores = scorer.score(request)
    assert outcomes(scores) == [Outcome.MATCH, Outcome.NO_SQL]
    assert [each.sql for each in scores] == [GOLD, None]
    assert scores[1].reward == 0.0
    with pytest.raises(ValueError, match="exactly one"):
        scorer.score(ScoreRequest(question_id="q", database_id="emp", gold_sql=(GOLD,), candidates=(Candidate(),)))


def test_duplicates_run_once(folder: Path, make_scorer: MakeScorer) -> None:
    scores = score(make_scorer(folder), GOLD, *[ENDLESS, GOLD] * 16)
    assert outcomes(scores) == [Outcome.TIMEOUT, Outcome.MATCH] * 16
    assert len({each.seconds for each in scores}) == 2


def test_any_of_several_golds(scorer: Scorer) -> None:
    golds = ("SELECT 1", "SELECT nope", "SELECT 2")
    assert outcomes(score(scorer, golds, "SELECT 2", "SELECT 3")) == [Outcome.MATCH, Outcome.MISMATCH]


@pytest.mark.parametrize("gold", ["SELECT nope", "DELETE FROM emp", ENDLESS, ONE_OPCODE, ()])
def test_a_failing_gold_gives_nobody_a_reward(scorer: Scorer, gold: str | tuple[str, ...]) -> None:
    scores = score(scorer, gold, "SELECT 1", "SELEC", "DROP TABLE emp")
    assert {(each.outcome, each.reward) for each in scores} == {(Outcome.GOLD_FAILED, None)}
    assert outcomes(score(scorer, gold, "DROP TABLE emp")) == [Outcome.GOLD_FAILED]
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]


@pytest.mark.parametrize("fault", ["missing", "corrupt", "locked", "folder", "../emp", "", "nul\0"])
def test_a_database_fault_is_infrastructure(tmp_path: Path, make_scorer: MakeScorer, fault: str) -> None:
    path = make_database(tmp_path)
    scorer = make_scorer(tmp_path)
    database_id = "emp"
    locker = sqlite3.connect(path, isolation_level=None)
    if fault == "corrupt":
        path.write_bytes(b"not a database" * 1000)
    elif fault == "locked":
        locker.execute("BEGIN EXCLUSIVE")
    elif fault == "folder":
        path.unlink()
        path.mkdir()
    else:
        database_id = fault
    scores = score(scorer, GOLD, GOLD, "DROP TABLE emp", database_id=database_id)
    assert {(each.outcome, each.reward) for each in scores} == {(Outcome.INFRASTRUCTURE, None)}, scores
    assert scores[0].message
    locker.close()
    if fault == "locked":
        assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]


def test_a_lock_after_the_gold_is_infrastructure(tmp_path: Path, make_scorer: MakeScorer) -> None:
    scorer = make_scorer(tmp_path)
    path = make_database(tmp_path)
    assert outcomes(score(scorer, GOLD, GOLD)) == [Outcome.MATCH]
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    assert score(scorer, GOLD, "SELECT dept FROM emp")[0].reward is None
    locker.close()


def test_a_changed_database_is_read_anew(tmp_path: Path, make_scorer: MakeScorer) -> None:
    path = make_database(tmp_path)
    scorer = make_scorer(tmp_path)
    assert outcomes(score(scorer, "SELECT count(*) FROM emp", "SELECT 3")) == [Outcome.MATCH]
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM emp WHERE id=1")
    connection.commit()
    connection.close()
    assert outcomes(score(scorer, "SELECT count(*) FROM emp", "SELECT 3", "SELECT 2")) == [
        Outcome.MISMATCH,
        Outcome.MATCH,
    ]


def test_more_databases_than_stay_open_need_no_new_child(
    tmp_path: Path, make_scorer: MakeScorer, capfd: pytest.CaptureFixture[str]
) -> None:
    database_ids = [f"emp_{number}" for number in range(MAX_OPEN + 4)]
    for database_id in database_ids:
        make_database(tmp_path, database_id)
    scorer = make_scorer(tmp_path)
    pids = set()
    for database_id in database_ids * 2:
        assert outcomes(score(scorer, GOLD, GOLD, database_id=database_id)) == [Outcome.MATCH]
        pids.add(scorer.executor_pid)
    assert len(pids) == scorer.stats().num_children == 1
    assert capfd.readouterr().err == ""


def test_a_database_in_wal_mode_is_read_without_a_trace(tmp_path: Path, make_scorer: MakeScorer) -> None:
    path = make_database(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    assert outcomes(score(make_scorer(tmp_path), GOLD, GOLD)) == [Outcome.MATCH]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_text_and_types_survive(scorer: Scorer) -> None:
    for sql in (
        "SELECT x FROM odd",
        "SELECT CAST(x'80' AS TEXT)",
        "SELECT 'a:b', '%s', ':name', '?'",
        "SELECT 9223372036854775807, -9223372036854775808, 9e999",
        "SELECT 'a' || char(0) || 'b'",
        "SELECT body FROM words WHERE words MATCH 'red'",
        "SELECT key, value FROM json_each('{\"a\":1}')",
    ):
        assert outcomes(score(scorer, sql, sql + " -- same")) == [Outcome.MATCH], sql
    assert outcomes(score(scorer, "SELECT x FROM odd LIMIT 1", "SELECT 'abc'", "SELECT 'ab\ufffdc'")) == (
        [Outcome.MISMATCH] * 2
    )


@pytest.mark.parametrize("semantics", ["bird", "spider", "strict"])
def test_semantics_by_name(folder: Path, make_scorer: MakeScorer, semantics: str) -> None:
    scores = score(
        make_scorer(folder, semantics=semantics), "SELECT 1, 'a' ORDER BY 1", "SELECT 'a', 1", "SELECT 1.0, 'a'"
    )
    expected = {"bird": [False, True], "spider": [True, True], "strict": [False, False]}[semantics]
    assert [each.outcome is Outcome.MATCH for each in scores] == expected


def test_no_candidates_and_a_ping(scorer: Scorer) -> None:
    assert score(scorer, GOLD) == ()
    assert scorer.ping()
