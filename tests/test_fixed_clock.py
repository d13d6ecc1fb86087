"""One instant for SQL: what asks for the time gets it, all else stays SQLite's own, and databases with dates work."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.messages import Candidate, Outcome, ScoreRequest
from configs.errors import UserError
from configs.loading import load_config
from configs.schema import RewardSection
from reward_service.executor import Executor
from reward_service.executor_settings import ExecutorSettings
from reward_service.fixed_clock import FixedClock, asks_for_the_time
from reward_service.scorer import Scorer

CLOCK = "2024-02-29 13:14:15"
EQUAL_AT_THE_CLOCK = {
    "date('now')": "'2024-02-29'",
    "date('NOW', '+1 day')": "'2024-03-01'",
    "date()": "'2024-02-29'",
    "time('now')": "'13:14:15'",
    "datetime('now', 'utc')": "'2024-02-29 13:14:15'",
    "datetime( /* when */ )": "'2024-02-29 13:14:15'",
    "julianday('now')": f"julianday('{CLOCK}')",
    "strftime('%Y', 'now')": "'2024'",
    "strftime('%d')": "'29'",
    "strftime('%d,%m')": "'29,02'",
    'strftime("%H", "now", "-1 hours")': "'12'",
    "unixepoch('now')": f"unixepoch('{CLOCK}')",
    "CURRENT_DATE": "'2024-02-29'",
    "current_time": "'13:14:15'",
    "Current_Timestamp": f"'{CLOCK}'",
    "(SELECT max(born) FROM pet WHERE born < CURRENT_DATE)": "'2024-01-01'",
}
TIMELESS = (
    "SELECT name FROM pet", "SELECT 'I know now or never' FROM pet", "SELECT date(born) FROM pet", "SELECT time FROM t",
    "SELECT strftime('%Y', born), datetime(born, 'localtime') FROM pet", "SELECT strftime('%d,%m', born) FROM pet",
    "SELECT name -- 'later'\n FROM pet",
)  # fmt: skip
SCHEMA = """
CREATE TABLE pet (name TEXT, born TEXT CHECK (date(born) IS NOT NULL), year TEXT AS (strftime('%Y', born)) STORED,
                  month TEXT AS (strftime('%m', born)));
CREATE INDEX pet_year ON pet (strftime('%Y', born));
CREATE VIEW age AS SELECT name, CAST(strftime('%Y', 'now') AS INTEGER) - CAST(year AS INTEGER) AS years FROM pet;
INSERT INTO pet (name, born) VALUES ('Rex', '2020-05-01'), ('Tom', '2024-01-01'), ('Una', '2031-01-01');
"""


@pytest.fixture(scope="module")
def databases_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    (folder / "zoo").mkdir()
    with closing(sqlite3.connect(folder / "zoo" / "zoo.sqlite")) as connection:
        connection.executescript(SCHEMA)
    return folder


def outcomes(databases_dir: Path, gold: str, *candidates: str, clock: str = CLOCK) -> list[Outcome]:
    executor = Executor(ExecutorSettings.from_section(databases_dir, RewardSection(clock=clock)))
    request = {"database_id": "zoo", "golds": [(0, gold)], "statements": list(enumerate(candidates))}
    return [Outcome(frame["outcome"]) for frame in executor.run_group(request)]


@pytest.mark.parametrize("expression", EQUAL_AT_THE_CLOCK)
def test_what_asks_for_the_time_gets_the_clocks(databases_dir, expression):
    assert asks_for_the_time(f"SELECT {expression}")
    found = outcomes(databases_dir, f"SELECT {EQUAL_AT_THE_CLOCK[expression]}", f"SELECT {expression}")
    if Outcome.RUNTIME_ERROR in found:  # an older SQLite lacks the function
        assert "unixepoch" in expression
    else:
        assert found == [Outcome.MATCH, Outcome.MATCH]


def test_views_generated_columns_and_indexes_with_dates_work(databases_dir):
    gold = "SELECT years FROM age WHERE name = 'Rex'"
    assert outcomes(databases_dir, gold, "SELECT 4", "SELECT 5") == [Outcome.MATCH, Outcome.MATCH, Outcome.MISMATCH]
    of_columns = "SELECT year, month FROM pet WHERE strftime('%Y', born) = '2020' AND born < date('now')"
    assert outcomes(databases_dir, of_columns, "SELECT '2020', '05'") == [Outcome.MATCH, Outcome.MATCH]


@pytest.mark.parametrize("sql", TIMELESS)
def test_what_does_not_ask_keeps_sqlites_own_functions(sql):
    assert not asks_for_the_time(sql)


def test_verdicts_of_the_clock_are_kept_and_those_of_chance_are_not(databases_dir):
    scorer = Scorer(databases_dir, RewardSection(clock=CLOCK))
    try:
        request = ScoreRequest(
            question_id="q", database_id="zoo", gold_sql=("SELECT date('now')",), question="", evidence="",
            candidates=(Candidate(sql="SELECT CURRENT_DATE"), Candidate(sql="SELECT random()")),
        )  # fmt: skip
        for _ in range(2):
            assert [one.outcome for one in scorer.score(request)] == [Outcome.MATCH, Outcome.MISMATCH]
            time.sleep(0.01)
        assert scorer.stats().num_cached == 1
    finally:
        scorer.close()


@given(
    st.sampled_from(["date", "time", "datetime", "julianday", "strftime"]),
    st.lists(
        st.sampled_from(["2020-01-31", "%Y", "+1 month", "start of year", "utc", "", "nonsense", None, 2459000.5, 7]),
        min_size=2, max_size=4,
    ),
)  # fmt: skip
def test_without_now_the_functions_are_sqlites(name, arguments):
    plain, fixed = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    with closing(plain), closing(fixed):
        FixedClock(CLOCK).install(fixed)
        call = f"SELECT {name}({', '.join('?' * len(arguments))})"
        assert fixed.execute(call, arguments).fetchone() == plain.execute(call, arguments).fetchone()


@pytest.mark.parametrize(
    "given_as, taken",
    [
        ("2024-02-29 13:14:15", CLOCK),
        ("'2024-02-29T13:14:15Z'", CLOCK),
        ("2024-02-29T15:14:15+02:00", CLOCK),
        ("2024-02-29", "2024-02-29 00:00:00"),
        ("auto", "auto"),
    ],
)
def test_a_clock_may_be_written_as_iso_8601_has_it(given_as, taken):
    assert load_config(None, [f"reward.clock={given_as}"]).reward.clock == taken


def test_a_clock_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"reward\.clock is 'noon', which is no instant"):
        load_config(None, ["reward.clock=noon"])


@pytest.mark.parametrize("text", ["strftime(", "date(", "strftime('", "date ", "date(/*", "/*", "(", "'now", "date--"])
def test_long_texts_are_looked_at_in_one_pass(text):
    started_s = time.thread_time()
    asks_for_the_time("strftime(1,2)" + text * (400_000 // len(text)))
    assert time.thread_time() - started_s < 60  # a pass for each call takes hours
