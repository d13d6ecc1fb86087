"""The Ray cluster that a run joins, whether it answers, and the port of an own one's dashboard."""

from __future__ import annotations

import socket

from floe.cluster.environment import ray_address
from floe.configs.errors import UserError
from floe.configs.schema import ClusterSection

LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT_S = 10.0
VARIABLE = "RAY_ADDRESS"
KEY = "cluster.address"
MAX_PORT = 65535


def cluster_address(cluster: ClusterSection) -> str | None:
    """Return the address of the cluster that is joined; None where an own local Ray is started.

    `auto` is RAY_ADDRESS, which a Ray job has set, or else the cluster of `ray start` where it still answers. Ray's own
    `auto` would also join the private Ray of another run on this machine, and die with it. Raises UserError.
    """
    if cluster.address != "auto":
        return None if cluster.address == "local" else cluster.address
    named = ray_address()
    if named and named != "auto":
        return None if named == "local" else named
    recorded = recorded_cluster()
    return recorded if recorded is not None and not _silence(recorded) else None


def recorded_cluster() -> str | None:
    """Return the address that `ray start` has left in Ray's temp folder, of a cluster that may have died since."""
    from ray._private.utils import read_ray_address

    return read_ray_address() or None


def passed_over(cluster: ClusterSection) -> str:
    """Return what to say of a recorded cluster that is not joined since it does not answer; empty for none."""
    if cluster.address != "auto" or cluster_address(cluster) is not None or ray_address() == "local":
        return ""
    from ray._common.utils import get_ray_address_file

    recorded = recorded_cluster()
    if recorded is None:
        return ""
    return f", since nothing answers at {recorded}, which {get_ray_address_file(None)} names"


def check_answers(address: str) -> None:
    """Raise UserError when nothing answers. Ray itself would try for many minutes."""
    source = VARIABLE if address == ray_address() else KEY
    remedy = f"unset {VARIABLE}" if source == VARIABLE else f"set {KEY}=local"
    if "://" in address:
        kind = "the address of Ray's dashboard" if address.startswith("http") else "an address for Ray's client"
        raise UserError(f"{source} is {address!r}, {kind}: give host:port as ray start printed it, or {remedy}.")
    if _place(address) is None:
        raise UserError(
            f"{source} is {address!r}: use 'auto', 'local' or host:port with a port from 1 to {MAX_PORT}, "
            "as ray start printed it."
        )
    if silence := _silence(address):
        raise UserError(
            f"No Ray cluster answers at {address} ({silence}), which {source} names: "
            f"start one with 'ray start --head', or {remedy}."
        )


def check_dashboard_port(cluster: ClusterSection) -> None:
    """Raise UserError when the port is in use."""
    port = cluster.dashboard_port
    if port is not None and not _is_free(port):
        raise UserError(f"cluster.dashboard_port {port} is in use by another program: choose another, or leave it out.")


def _place(address: str) -> tuple[str, int] | None:
    """Return host and port, None for what is no such address."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= MAX_PORT:
        return None
    return host.strip("[]"), int(port)


def _silence(address: str) -> str:
    """Return why nothing answers there; empty where something does."""
    place = _place(address)
    if place is None:
        return "no address"
    try:
        socket.create_connection(place, timeout=PROBE_TIMEOUT_S).close()
    except (OSError, UnicodeError) as fault:
        return getattr(fault, "strerror", None) or str(fault)
    return ""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
