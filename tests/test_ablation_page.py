"""The table of docs/reward_designs.md is the one that the records in docs/record give."""

from __future__ import annotations

from floe.cluster.ablation.records import read_records
from floe.cluster.operations.ablate import show_records
from tests.command_line import REPOSITORY

RECORDS = REPOSITORY / "docs" / "record" / "reward_designs"
PAGE = REPOSITORY / "docs" / "reward_designs.md"


def test_every_line_that_the_records_print_stands_on_the_page(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "190")
    show_records(RECORDS, None)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    page = {line.strip() for line in PAGE.read_text(encoding="utf-8").splitlines()}
    assert len(printed) > 20
    assert [line for line in printed if line not in page] == []


def test_each_seed_has_all_arms():
    arms: dict[int, set[str]] = {}
    for record in read_records(RECORDS):
        arms.setdefault(record.measures.seed, set()).add(record.measures.arm)
    assert set(map(frozenset, arms.values())) == {
        frozenset({"arctic", "graph_reward", "reasoning_sql", "reasoning_sql_gdpo", "sql_r1", "sql_r1_gdpo"})
    }
