"""The tables of arms in docs are those that the records in docs/record give."""

from __future__ import annotations

import pytest

from floe.cluster.ablation.records import read_records
from floe.cluster.operations.ablate import show_records
from tests.command_line import REPOSITORY

DOCS = REPOSITORY / "docs"
DRAWS = frozenset({"uniform", "control", "posterior", "posterior+groups"})
DESIGNS = frozenset({"arctic", "graph_reward", "reasoning_sql", "reasoning_sql_gdpo", "sql_r1", "sql_r1_gdpo"})
# folder of records, page, the arm that others are compared with, and all arms
TABLES = [
    ("reward_designs", "reward_designs.md", "", DESIGNS),
    ("curriculum_geoquery", "curriculum.md", "uniform", DRAWS),
]


@pytest.mark.parametrize(("records", "page", "first", "arms"), TABLES)
def test_every_line_that_the_records_print_stands_on_the_page(records, page, first, arms, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "190")
    show_records(DOCS / "record" / records, None, first)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    lines = {line.strip() for line in (DOCS / page).read_text(encoding="utf-8").splitlines()}
    assert len(printed) > 20
    assert [line for line in printed if line not in lines] == []


@pytest.mark.parametrize(("records", "page", "first", "arms"), TABLES)
def test_each_seed_has_all_arms(records, page, first, arms):
    of_seed: dict[int, set[str]] = {}
    for record in read_records(DOCS / "record" / records):
        of_seed.setdefault(record.measures.seed, set()).add(record.measures.arm)
    assert set(map(frozenset, of_seed.values())) == {arms}
