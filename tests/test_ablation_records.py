"""Records of finished arms: written, found again, compared with what is planned, and shown without any run."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from floe.cluster.ablation.arm_runs import planned_runs
from floe.cluster.ablation.arms import arms_of
from floe.cluster.ablation.records import (
    ArmRecord,
    check_blocks,
    check_machine,
    in_order,
    read_record,
    read_records,
    settings_of,
    write_record,
)
from floe.cluster.ablation.report import ablation_report
from floe.cluster.ablation.tables import render
from floe.cluster.operations.ablate import show_records
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from tests.command_line import config, floe
from tests.test_ablation import measures

BUDGET = "run.max_generated_tokens=1000"


def record(arm: str = "arctic", seed: int = 1, num_correct: tuple[int, ...] = (2, 2, 2), **changed: str) -> ArmRecord:
    planned = load_config(Path(config("ablation.yaml")), [BUDGET, f"reward.design={arm}", f"run.seed={seed}"])
    where = {"processor": "A, AVX2", "precision": "float32, engine float32"} | changed
    return ArmRecord(settings=settings_of(planned), measures=measures(arm, seed, num_correct), **where)


def plan(records: Path, tmp_path: Path, *overrides: str) -> list[bool]:
    given = [BUDGET, f"run.home={tmp_path}", *overrides]
    arms = arms_of(["arctic", "sql_r1"], [])
    runs = planned_runs(Path(config("ablation.yaml")), given, arms, 1, tmp_path / "out", records)
    return [run.is_finished for run in runs]


def test_a_record_comes_back_as_it_was_and_its_bytes_depend_on_nothing_else(tmp_path):
    path = write_record(tmp_path / "a", record())
    assert read_record(path) == record()
    assert path.name == "arctic-seed1.json.gz"
    assert path.read_bytes() == write_record(tmp_path / "b", record()).read_bytes()


def test_a_record_holds_no_folder_of_the_machine(tmp_path):
    given = [f"run.home={tmp_path}", f"reward.graph_network={tmp_path / 'network'}", "reward.design=graph_reward"]
    (tmp_path / "network").mkdir()
    settings = settings_of(load_config(Path(config("ablation.yaml")), given))
    assert settings["reward.graph_network"] == "network"
    assert str(tmp_path) not in str(settings)


def test_an_arm_with_a_record_is_finished_though_its_run_is_gone(tmp_path):
    assert plan(tmp_path / "records", tmp_path) == [False, False]
    write_record(tmp_path / "records", record("sql_r1"))
    assert plan(tmp_path / "records", tmp_path) == [False, True]


def test_a_record_of_other_settings_is_refused_by_their_names(tmp_path):
    write_record(tmp_path, record())
    with pytest.raises(UserError, match=r"arctic-seed1 is another run's \(rollout\.temperature \(1\.0 in .*, 0\.5 now"):
        plan(tmp_path, tmp_path, "rollout.temperature=0.5")


def test_a_broken_record_is_named(tmp_path):
    path = write_record(tmp_path, record())
    for content in (b"", b"no gzip", path.read_bytes()[:-30], gzip.compress(b"{}")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"arctic-seed1\.json\.gz holds no record of an arm"):
            read_records(tmp_path)
    with pytest.raises(UserError, match="holds no records of arms"):
        read_records(tmp_path / "elsewhere")


def test_arms_of_a_seed_come_from_one_machine_and_seeds_from_any():
    here, there = record(), record("sql_r1", processor="B, AVX512")
    check_blocks([here, record("sql_r1"), replace(there, measures=measures("sql_r1", 2, (1, 1, 1)))])
    with pytest.raises(UserError, match=r"sql_r1-seed1 was trained on B, AVX512 .*arctic-seed1 on A, AVX2"):
        check_blocks([here, there])
    check_machine(here, "A, AVX2")
    with pytest.raises(UserError, match="train the arms that seed 1 lacks on such a machine"):
        check_machine(here, "B, AVX512")


def test_records_stand_in_the_order_of_the_arms_within_a_seed():
    given = [record("sql_r1", 2), record("arctic", 1), record("arctic", 2), record("sql_r1", 1)]
    names = [one.name for one in in_order(given, ["sql_r1", "arctic"])]
    assert names == ["sql_r1-seed1", "arctic-seed1", "sql_r1-seed2", "arctic-seed2"]


def test_the_table_is_made_of_records_alone(tmp_path, capsys):
    for one in (record(), record("sql_r1", num_correct=(4, 4, 4)), record(seed=2), record("sql_r1", 2, (4, 4, 1))):
        write_record(tmp_path / "records", one)
    show_records(tmp_path / "records", tmp_path / "out")
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("sql_r1")]
    assert [row[1] for row in rows[:3]] == ["1", "2", "all"]
    assert "+37.5" in shown and "Trained on A, AVX2, in float32, engine float32." in shown
    assert (tmp_path / "out" / "ablation.html").stat().st_size > 1000


def test_another_arm_than_the_first_by_name_may_be_compared_with(tmp_path, capsys):
    for one in (record(), record("sql_r1", num_correct=(4, 4, 4))):
        write_record(tmp_path / "records", one)
    show_records(tmp_path / "records", None, "sql_r1")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("arctic", "sql_r1")][:2] == ["sql_r1", "arctic"]
    with pytest.raises(UserError, match=r"--first is sql_r2, but the arms in .* are arctic, sql_r1"):
        show_records(tmp_path / "records", None, "sql_r2")


def test_what_the_intervals_resolve_is_half_of_the_widest_difference(capsys):
    pairs = [measures("arctic", 1, (2, 2, 2)), measures("sql_r1", 1, (4, 2, 0))]
    report = ablation_report(pairs, 2000, 1)
    (row,) = [row for row in report.rows if row.to_first is not None]
    assert row.to_first is not None
    assert report.resolved_difference == pytest.approx((row.to_first.high - row.to_first.low) / 2)
    assert report.resolved_difference > 0.2
    render(report, Console(width=190))
    assert f"below {100 * report.resolved_difference:.1f} points from none" in capsys.readouterr().out


def test_an_arm_without_a_control_has_a_dash(capsys):
    render(ablation_report([measures("arctic", 1, (2, 2, 2), None)], 200, 1), Console(width=190))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if " 0.50 [" in line or "50.0 [" in line]
    assert row.split()[-3:] == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rewards", "arctic", "--out", "DIR"], "--config is not given"),
        (["--rewards", "arctic", "--config", config("ablation.yaml")], "--out is not given"),
        (["--records", "DIR"], "holds no records of arms"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(tmp_path, arguments, said):
    done = floe("ablate", *[str(tmp_path) if one == "DIR" else one for one in arguments], home=tmp_path)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
