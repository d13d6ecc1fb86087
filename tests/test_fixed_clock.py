"""One instant for SQL: calls that ask for the time get it, all others stay SQLite's, and databases with dates work."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RewardSection
from floe.reward_service.sandbox.executor import Executor
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from floe.reward_service.sandbox.fixed_clock import FixedClock, calls_for_the_time
from floe.reward_service.scorer import Scorer

CLOCK = "2024-02-29 13:14:15"
EQUAL_AT_THE_CLOCK = {
    "date('now')": "'2024-02-29'",
    "date('NOW', '+1 day')": "'2024-03-01'",
    "date()": "'2024-02-29'",
    "time('now')": "'13:14:15'",
    "datetime( /* when */ )": "'2024-02-29 13:14:15'",
    "datetime(('now'), '+1 hour')": "'2024-02-29 14:14:15'",
    "date(x'6e6f77')": "'2024-02-29'",
    "date(\ufeff)": "'2024-02-29'",
    "julianday('now')": "julianday('2024-02-29 13:14:15')",
    "round(julianday('now') - julianday(born))": "round(julianday('2024-02-29 13:14:15') - julianday(born))",
    "strftime('%Y', 'now')": "'2024'",
    "strftime('%d')": "'29'",
    "strftime('%d,%m')": "'29,02'",
    "strftime('%d' || ',%m')": "'29,02'",
    "\"strftime\"('%d')": "'29'",
    "[strftime]('%d') || [a'b]": "'29x'",
    "`DATE` ('now')": "'2024-02-29'",
    'strftime("%H", "now", "-1 hours")': "'12'",
    "unixepoch('now')": "unixepoch('2024-02-29 13:14:15')",
    "date('now') -- then date('now'": "'2024-02-29'",
    "CURRENT_DATE": "'2024-02-29'",
    "current_time": "'13:14:15'",
    "Current_Timestamp": "'2024-02-29 13:14:15'",
    "(SELECT max(born) FROM pet WHERE born < CURRENT_DATE)": "'2024-01-01'",
}
TIMELESS = (
    "SELECT name FROM pet", "SELECT 'I know now or never' FROM pet", "SELECT date(born) FROM pet", "SELECT time FROM t",
    "SELECT strftime('%Y', born), datetime(born, 'localtime') FROM pet", "SELECT strftime('%d,%m', born) FROM pet",
    "SELECT name -- 'later'\n FROM pet", "SELECT 'date(''now'')'", "SELECT date(born, 'now')",
    "SELECT date(lower('now'))",
    "WITH date(d) AS (SELECT 1) SELECT d FROM date", "SELECT max('now', date(born)) FROM pet", "SELECT date('now', )",
    "SELECT strftime(born, 'x') /* date('now') */", "SELECT update('now')", 'SELECT "date(\'now\')" FROM t',
)  # fmt: skip
SCHEMA = """
CREATE TABLE pet (name TEXT, born TEXT CHECK (date(born) IS NOT NULL), year TEXT AS (strftime('%Y', born)) STORED,
                  month TEXT AS (strftime('%m', born)));
CREATE TABLE odd (d TEXT, [a'b] TEXT);
INSERT INTO odd VALUES (CAST(x'32303230ff' AS TEXT), 'x'), ('2020-05-01', 'x'), (NULL, 'x');
CREATE INDEX pet_year ON pet (strftime('%Y', born));
INSERT INTO pet (name, born) VALUES ('Rex', '2020-05-01'), ('Tom', '2024-01-01'), ('Una', '2031-01-01');
"""


@pytest.fixture(scope="module")
def databases_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    make(folder, SCHEMA)
    return folder


def make(folder: Path, script: str) -> None:
    (folder / "zoo").mkdir()
    with closing(sqlite3.connect(folder / "zoo" / "zoo.sqlite")) as connection:
        connection.executescript(script)


def outcomes(databases_dir: Path, gold: str, *candidates: str, clock: str = CLOCK) -> list[Outcome]:
    executor = Executor(ExecutorSettings.from_section(databases_dir, RewardSection(clock=clock)))
    request = {"database_id": "zoo", "golds": [(0, gold)], "statements": list(enumerate(candidates))}
    return [Outcome(frame["outcome"]) for frame in executor.run_group(request)]


@pytest.mark.parametrize("expression", EQUAL_AT_THE_CLOCK)
def test_what_asks_for_the_time_gets_the_clocks(databases_dir, expression):
    table = "odd" if "a'b" in expression else "pet"
    gold, asking = (f"SELECT {one}\nFROM {table}" for one in (EQUAL_AT_THE_CLOCK[expression], expression))
    found = outcomes(databases_dir, gold, asking)
    assert found == [Outcome.MATCH, Outcome.MATCH] or ("unixepoch" in expression and Outcome.GOLD_FAILED in found)


@pytest.mark.parametrize("sql", TIMELESS)
def test_what_does_not_ask_keeps_sqlites_own_functions(sql):
    assert FixedClock(CLOCK).rewritten(sql) is sql


def test_generated_columns_indexes_and_checks_with_dates_work(databases_dir):
    of_columns = "SELECT year, month FROM pet WHERE strftime('%Y', born) = '2020' AND born < date('now')"
    assert outcomes(databases_dir, of_columns, "SELECT '2020', '05'") == [Outcome.MATCH, Outcome.MATCH]


def test_text_that_is_no_utf_8_is_a_date_as_it_is_to_sqlite(databases_dir):
    gold = "SELECT count(*) FROM odd WHERE strftime('%Y', d) < strftime('%Y', 'now')"
    assert outcomes(databases_dir, gold, "SELECT 1") == [Outcome.MATCH, Outcome.MATCH]


def test_a_view_that_asks_gets_the_clocks(tmp_path):
    view = "CREATE VIEW age AS SELECT name, strftime('%Y', 'now') - year AS years FROM pet"
    make(tmp_path, SCHEMA + view)
    gold = "SELECT years FROM age WHERE name = 'Rex'"
    assert outcomes(tmp_path, gold, "SELECT 4", "SELECT 5") == [Outcome.MATCH, Outcome.MATCH, Outcome.MISMATCH]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_local_times_are_sqlites(zone, monkeypatch):
    """Compare with the machine's clock at the same instant, whatever this SQLite makes of 'utc' after 'now'."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        connection = sqlite3.connect(":memory:")
        asked = "SELECT datetime('now'), {}"
        for call in ("datetime('now', 'utc')", "datetime('now', 'localtime')", "date('now', '+1 day', 'utc')"):
            for _ in range(20):
                before, native, after = (connection.execute(asked.format(call)).fetchone() for _ in "abc")
                if before[0] == after[0]:
                    break
            clock = FixedClock(before[0])
            clock.install(connection, in_views=False)
            assert connection.execute(f"SELECT {clock.rewritten(call)}").fetchone() == native[1:]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_columns_are_named_as_the_statement_has_them(databases_dir):
    executor = Executor(ExecutorSettings.from_section(databases_dir, RewardSection(clock=CLOCK)))
    request = {"database_id": "zoo", "statements": [(0, "SELECT date('now')")], "inspect": "rows", "max_rows": 1}
    (frame,) = executor.run_group(request)
    assert "date('now')" in str(frame) and "floe_" not in str(frame) and "2024-02-29" in str(frame)


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
        FixedClock(CLOCK).install(fixed, in_views=True)
        call = f"SELECT {name}({', '.join('?' * len(arguments))})"
        assert fixed.execute(call, arguments).fetchone() == plain.execute(call, arguments).fetchone()


@pytest.mark.parametrize(
    "given_as, taken",
    [
        ("2024-02-29 13:14:15", CLOCK),
        ("'2024-02-29T13:14:15Z'", CLOCK),
        ("2024-02-29T15:14:15+02:00", CLOCK),
        ("2024-02-29", "2024-02-29 00:00:00"),
        ("0999-01-02", "0999-01-02 00:00:00"),
        ("2024-02-29 13:14:15.75", CLOCK),
        ("auto", "auto"),
    ],
)
def test_a_clock_may_be_written_as_iso_8601_has_it(given_as, taken):
    assert load_config(None, [f"reward.clock={given_as}"]).reward.clock == taken


@pytest.mark.parametrize("value", ["noon", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "2024-13-01"])
def test_a_clock_that_is_none_is_refused(value):
    with pytest.raises(UserError, match=r"reward\.clock is '.*', which is not a point in time"):
        load_config(None, [f"reward.clock={value}"])


@pytest.mark.parametrize("text", ["strftime(", "date(", "strftime('", "date ", "date(/*", "/*", "(", "'now", "date--"])
def test_long_texts_are_looked_at_in_one_pass(text):
    started_s = time.thread_time()
    calls_for_the_time("strftime(1,2)" + text * (100_000 // len(text)))
    assert time.thread_time() - started_s < 60  # a pass for each call takes many minutes
