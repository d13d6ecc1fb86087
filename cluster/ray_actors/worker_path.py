"""Module search path of Ray's workers: floe from where the driver took it, never the driver's working folder."""

from __future__ import annotations

from collections.abc import Iterable

from ray.job_config import JobConfig

from floe.cluster.contained.own_code import needed_roots


class _OwnRoots(list[str]):
    """List that Ray extends without effect: `ray.init` adds the working folder, and there is no switch for that."""

    def extend(self, _: Iterable[str]) -> None:
        return None


def job_config() -> JobConfig:
    """Return the configuration with which a driver of floe joins or starts a cluster.

    What `ray job submit --working-dir` sends is on the workers' path by another way, and stays there.
    """
    config = JobConfig()
    config._py_driver_sys_path = _OwnRoots(needed_roots())
    return config
