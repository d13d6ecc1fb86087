"""Starts a Ray of the run's own, for this machine alone, and reports what would prevent that."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ray

from floe.cluster.environment import has_ray_token, ray_temp_folder
from floe.cluster.machine.ray_address import LOOPBACK, check_dashboard_port
from floe.configs.errors import UserError
from floe.configs.files.home_folder import why_not_writable
from floe.configs.schema import ClusterSection

LOCAL_OBJECT_STORE_BYTES = 2**30
MAX_SOCKET_PATH_BYTES = 107  # of Linux
SESSION = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"  # Ray's longest path of a socket
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"


def start_own_ray(cluster: ClusterSection, shared: dict[str, Any]) -> str:
    """Start it with the options `shared`, and return a line that says so. Raises UserError."""
    port = cluster.dashboard_port
    check_dashboard_port(cluster)
    check_temp_folder()
    provide_token()
    with _loopback_only():
        ray.init(
            address="local",
            include_dashboard=port is not None,
            dashboard_host=LOOPBACK,
            dashboard_port=port,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            # Ray lowers its workers' priority, so that any other work on a laptop would stall their OpenMP barriers.
            _system_config={"worker_niceness": 0},
            **shared,
        )
    return "started a local Ray" + ("" if port is None else f", dashboard at http://{LOOPBACK}:{port}")


def check_temp_folder() -> None:
    """Raise UserError where Ray's sockets can't be made: the folder's name is too long, or it can't be written."""
    variable, folder = ray_temp_folder()
    said = f"{variable} is {folder}" if variable else f"Ray's folder is in {folder}"
    excess_bytes = len(os.fsencode(folder / SESSION.format(pid=os.getpid()))) - MAX_SOCKET_PATH_BYTES
    if excess_bytes > 0:
        raise UserError(
            f"{said}, {excess_bytes} bytes too long for the sockets that Ray makes below it: "
            "set RAY_TMPDIR to a folder with a short name, such as /tmp."
        )
    if why := why_not_writable(folder / "ray"):
        raise UserError(f"{said}, where Ray can't write ({why}): set RAY_TMPDIR to a folder that can be written.")


def provide_token() -> None:
    """Give this process's Ray a token where the user has none and Ray could not keep one in HOME."""
    if has_ray_token():
        return
    try:
        folder = Path.home() / ".ray"
    except RuntimeError:  # neither HOME nor an entry of the user says where it is
        folder = None
    if folder is None or (not (folder / "auth_token").is_file() and why_not_writable(folder)):
        os.environ[TOKEN_VARIABLE] = _own_token()


@cache
def _own_token() -> str:
    """Return one token for this process, since Ray reads its variable once."""
    return secrets.token_hex(32)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Make the servers of a starting Ray listen at the loopback interface, as Ray itself does on a Mac.

    On Linux Ray replaces 127.0.0.1 by the host's address, and listens on every interface.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
