"""Which Ray cluster a run joins, whether it answers, and the port of an own one's dashboard."""

from __future__ import annotations

import socket

from configs.errors import UserError
from configs.schema import ClusterSection

LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT_S = 10.0


def cluster_address(cluster: ClusterSection) -> str | None:
    """Of the cluster that is joined; None where an own local Ray is started."""
    address = _recorded_cluster() if cluster.address == "auto" else cluster.address
    return None if address == "local" else address


def check_answers(address: str) -> None:
    """Raises UserError. Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"cluster.address is {address!r}: use 'auto', 'local' or host:port, as ray start printed it.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_TIMEOUT_S).close()
    except OSError as fault:
        raise UserError(
            f"No Ray cluster answers at {address} ({fault.strerror or fault}): start one with 'ray start --head', "
            "or set cluster.address=local."
        ) from fault


def check_dashboard_port(cluster: ClusterSection) -> None:
    """Raises UserError."""
    port = cluster.dashboard_port
    if port is not None and not _is_free(port):
        raise UserError(f"cluster.dashboard_port {port} is in use by another program: choose another, or leave it out.")


def _recorded_cluster() -> str | None:
    """RAY_ADDRESS, which a Ray job has set, or the cluster of `ray start`; None when there is neither.

    Ray's own `auto` would also join the private Ray of another run on this machine, and die with it.
    """
    from ray._private.services import get_ray_address_from_environment

    return get_ray_address_from_environment(None, None)  # type: ignore[arg-type]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
