"""The rollouts file: complete, queryable during the run, and unharmed by any text."""

import sqlite3

import pytest

from floe.actors.questions.pass_rates import PassRate
from floe.cluster.messages import Outcome
from floe.cluster.tracking.rollout_log import RolloutLog
from tests.scored_groups import scored_group

NO_LIMIT = 2**40
MIXED = [(Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.1), (Outcome.GOLD_FAILED, None)]


def query(path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_every_candidate_is_kept(tmp_path):
    path = tmp_path / "run" / "rollouts.sqlite"
    with RolloutLog(path, NO_LIMIT) as log:
        log.append(1, [scored_group(MIXED), scored_group(MIXED, question_id="q2")], [[0.5, -0.5, None]] * 2)
        log.append(2, [scored_group(MIXED)])
        log.append(3, [])
    rows = query(path, "SELECT step, question_id, sample_index, reward, outcome, advantage FROM rollouts ORDER BY id")
    assert len(rows) == 9
    assert rows[:3] == [
        (1, "q1", 0, 1.0, "match", 0.5),
        (1, "q1", 1, 0.1, "mismatch", -0.5),
        (1, "q1", 2, None, "gold_failed", None),
    ]
    assert rows[3][1] == "q2"
    assert rows[8] == (2, "q1", 2, None, "gold_failed", None)
    columns = "database_id, question, completion, sql, seconds, adapter_version, newest_adapter_version, num_tokens"
    assert query(path, f"SELECT {columns}, truncated FROM rollouts LIMIT 1") == [
        ("shop", "How many?", "SELECT 1", "SELECT 1", 0.25, 1, 2, 1, 1)
    ]


def test_a_person_can_query_during_the_run_and_never_blocks_it(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path, NO_LIMIT) as log:
        log.append(1, [scored_group(MIXED)])
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM rollouts").fetchone() == (3,)
        log.append(2, [scored_group(MIXED)])
        assert reader.execute("SELECT count(*) FROM rollouts").fetchone() == (3,)
        reader.close()
        assert query(path, "SELECT count(*) FROM rollouts") == [(6,)]
    assert [file.name for file in tmp_path.iterdir()] == ["rollouts.sqlite"]


def test_reopening_appends(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    for step in (1, 2):
        with RolloutLog(path, NO_LIMIT) as log:
            log.append(step, [scored_group(MIXED)])
    assert query(path, "SELECT count(*), count(DISTINCT step) FROM rollouts") == [(6, 2)]


def test_hostile_text_is_stored(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path, NO_LIMIT) as log:
        log.append(1, [scored_group(MIXED, text="a\ud800b\0'); DROP TABLE rollouts;--", message="\udcff")])
    completion, message = query(path, "SELECT completion, message FROM rollouts LIMIT 1")[0]
    assert completion == "a\\ud800b\0'); DROP TABLE rollouts;--"
    assert message == "\\udcff"


def test_a_step_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path, NO_LIMIT) as log:
        for advantages in ([], [[0.5]]):
            with pytest.raises(ValueError, match="zip"):
                log.append(1, [scored_group(MIXED)], advantages)
    assert query(path, "SELECT count(*) FROM rollouts") == [(0,)]


def test_the_file_stays_within_its_limit_and_keeps_the_latest_steps_whole(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    limit, step_bytes = 2**20, 200_000
    with RolloutLog(path, limit) as log:
        for step in range(1, 31):
            log.append(step, [scored_group(MIXED, text="x" * (step_bytes // len(MIXED)))])
    assert path.stat().st_size <= limit + 2 * step_bytes
    kept = query(path, "SELECT step, count(*) FROM rollouts GROUP BY step ORDER BY step")
    assert kept == [(step, len(MIXED)) for step in range(31 - len(kept), 31)]
    assert len(kept) >= 3


def test_a_step_larger_than_the_limit_is_kept(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path, 2**20) as log:
        log.append(1, [scored_group(MIXED)])
        log.append(2, [scored_group(MIXED, text="x" * 2**20)])
    assert query(path, "SELECT DISTINCT step FROM rollouts") == [(2,)]


def test_later_steps_can_be_forgotten(tmp_path):
    path = tmp_path / "rollouts.sqlite"
    with RolloutLog(path, NO_LIMIT) as log:
        for step in (1, 2, 3, 4):
            log.append(step, [scored_group(MIXED)])
        log.forget_after(2)
        log.append(3, [scored_group(MIXED, question_id="again")])
    rows = query(path, "SELECT DISTINCT step, question_id FROM rollouts ORDER BY step")
    assert rows == [(1, "q1"), (2, "q1"), (3, "again")]


def test_pass_rates_are_over_the_steps_that_made_room_too(tmp_path):
    with RolloutLog(tmp_path / "bounded.sqlite", 2**20) as bounded, RolloutLog(tmp_path / "all.sqlite") as all_of_them:
        for step in range(1, 31):
            groups = [scored_group(MIXED, question_id=f"q{step % 4}", text="x" * 60_000)]
            bounded.append(step, groups)
            all_of_them.append(step, groups)
        assert query(tmp_path / "bounded.sqlite", "SELECT count(*) FROM rollouts")[0][0] < 30
        assert bounded.pass_rates() == all_of_them.pass_rates()
        assert bounded.pass_rates()["q1"] == PassRate(num_samples=16, num_correct=8)
