"""Limits of memory and CPU time hold wherever Slurm, systemd or a container has put them, of either version."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from floe.cluster.machine import cores
from floe.cluster.machine.control_groups import group_folders
from floe.cluster.machine.free_memory import free_memory_bytes, total_memory_bytes

MIB = 2**20


class Groups:
    """A tree of control groups, and what the process is in."""

    def __init__(self, folder: Path) -> None:
        self.root, self.membership = folder / "cgroup", folder / "membership"
        self.root.mkdir()
        self.membership.write_text("")

    @property
    def places(self) -> tuple[Path, Path]:
        return self.root, self.membership

    def write(self, place: str, **values: str) -> None:
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (folder / name.replace("__", ".")).write_text(f"{value}\n")


@pytest.fixture
def groups(tmp_path) -> Groups:
    return Groups(tmp_path)


def test_without_groups_the_machine_counts(groups):
    assert total_memory_bytes(*groups.places) == psutil.virtual_memory().total
    assert free_memory_bytes(*groups.places) > 100 * MIB
    assert cores.num_allowed_cores(*groups.places) == len(os.sched_getaffinity(0))


def test_a_containers_limit_of_memory_counts(groups):
    stat = "anon 5\ninactive_file 1000"
    groups.write("", memory__max=str(MIB), memory__current=str(MIB // 2), memory__stat=stat)
    assert free_memory_bytes(*groups.places) == MIB // 2 + 1000
    assert total_memory_bytes(*groups.places) == MIB


def test_the_smallest_limit_between_the_own_group_and_the_root_counts(groups):
    groups.membership.write_text("0::/system.slice/job_7/step_0/task_0\n")
    groups.write("system.slice/job_7/step_0/task_0", memory__max="max", memory__current="0")
    groups.write("system.slice/job_7", memory__max=str(8 * MIB), memory__current=str(7 * MIB))
    groups.write("system.slice", memory__max=str(9 * MIB), memory__current=str(8 * MIB + 1))
    groups.write("system.slice/job_8", memory__max=str(MIB), memory__current="0")  # another's
    assert total_memory_bytes(*groups.places) == 8 * MIB
    assert free_memory_bytes(*groups.places) == MIB - 1


def test_limits_of_version_1(groups):
    groups.membership.write_text("9:memory:/slurm/uid_5/job_7\n4:cpu,cpuacct:/slurm\n1:name=systemd:/x\n")
    stat = "inactive_file 1\ntotal_inactive_file 50"
    groups.write(
        "memory/slurm/uid_5/job_7", memory__limit_in_bytes=str(2 * MIB), memory__usage_in_bytes=str(MIB),
        memory__stat=stat,
    )  # fmt: skip
    groups.write("memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes=str(MIB))  # unlimited
    groups.write("cpu,cpuacct/slurm", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    groups.write("cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert total_memory_bytes(*groups.places) == 2 * MIB
    assert free_memory_bytes(*groups.places) == MIB + 50
    assert cores.num_allowed_cores(*groups.places) == 0.5


def test_a_container_that_sees_its_own_group_as_the_root(groups):
    groups.membership.write_text("9:memory:/docker/4f1a\n8:cpu:/../outside\n")
    groups.write("memory", memory__limit_in_bytes=str(MIB), memory__usage_in_bytes="0")
    groups.write("cpu", cpu__cfs_quota_us="25000", cpu__cfs_period_us="100000")
    assert total_memory_bytes(*groups.places) == MIB
    assert cores.num_allowed_cores(*groups.places) == 0.25


def test_a_container_whose_own_groups_lie_below_what_it_sees(groups):
    groups.membership.write_text("0::/kubepods/pod5/init.scope\n")
    groups.write("init.scope", memory__max=str(MIB))
    groups.write("", memory__max=str(4 * MIB))
    assert group_folders("memory", *groups.places) == (groups.root / "init.scope", groups.root)
    assert total_memory_bytes(*groups.places) == MIB


@pytest.mark.parametrize(("quota", "allowed"), [("max 100000", None), ("50000 100000", 0.5), ("150000 100000", 1.5)])
def test_a_quota_of_cpu_time_counts(groups, quota, allowed):
    groups.write("", cpu__max=quota)
    everything = len(os.sched_getaffinity(0))
    assert cores.num_allowed_cores(*groups.places) == min(everything, allowed or everything)


@pytest.mark.parametrize(("allowed", "threads"), [(0.5, 1), (1.9, 1), (3.2, 3), (64, 8)])
def test_a_role_takes_no_more_threads_than_it_may_use(monkeypatch, allowed, threads):
    monkeypatch.setattr(cores, "num_allowed_cores", lambda: allowed)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    assert cores.num_cores() == threads


def test_a_pinned_process_counts_the_cores_it_is_pinned_to():
    everything = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert cores.num_allowed_cores() == cores.num_cores() == 1
    finally:
        os.sched_setaffinity(0, everything)
