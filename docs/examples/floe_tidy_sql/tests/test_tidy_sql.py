"""The reward of each kind of query, without a model and without a database."""

import pytest
from floe_tidy_sql import TidySql

from floe.plugins import JudgedCandidate, JudgedGroup, Outcome


def rewards(*candidates: tuple[Outcome, str | None], **arguments: float) -> list[float]:
    group = JudgedGroup(
        question="Who sings?",
        evidence="",
        database_id="concert",
        gold_sql=("SELECT name FROM singer",),
        candidates=tuple(JudgedCandidate(outcome=one, sql=sql, completion=None) for one, sql in candidates),
    )
    return [round(one.value, 6) for one in TidySql(**arguments)(group)]


def test_a_star_costs_a_query_that_runs_its_penalty() -> None:
    right, star, wrong, failing, none = rewards(
        (Outcome.MATCH, "SELECT name FROM singer"),
        (Outcome.MATCH, "SELECT DISTINCT * FROM singer"),
        (Outcome.MISMATCH, "select\n* from singer"),
        (Outcome.SYNTAX_ERROR, "SELECT * FORM singer"),
        (Outcome.NO_SQL, None),
    )
    assert (right, star, wrong, failing, none) == (1.0, 0.8, -0.1, 0.0, 0.0)


@pytest.mark.parametrize("columns", ["s.*", "name, s.*", '"s".*', "name, *", "s . *"])
def test_a_star_of_one_table_is_a_star(columns: str) -> None:
    assert rewards((Outcome.MATCH, f"SELECT {columns} FROM singer s")) == [0.8]


@pytest.mark.parametrize("columns", ["COUNT(*)", "age * 2", "(age)*2"])
def test_counting_and_multiplying_is_no_star(columns: str) -> None:
    assert rewards((Outcome.MATCH, f"SELECT {columns} FROM singer")) == [1.0]


def test_a_long_query_costs_too() -> None:
    assert rewards((Outcome.MATCH, "SELECT 1" + " " * 500)) == [0.9]


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        TidySql(star_penalty=-1)
