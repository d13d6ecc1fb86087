"""Checks addresses of servers as text: whether they are whole, and hold nothing secret."""

from __future__ import annotations

from urllib.parse import urlsplit

from floe.configs.sections.bounds import MAX_PORT


def is_address(url: str) -> bool:
    """Return whether it has a scheme and a host, and a possible port if any."""
    try:
        parts = urlsplit(url)
        return bool(parts.scheme and parts.hostname) and parts.port != 0
    except ValueError:  # brackets without a pair, a port above 65535
        return False


def has_credentials(url: str) -> bool:
    """Return whether a name or password stands before the host."""
    _, has_host, rest = url.partition("://")
    return bool(has_host) and "@" in rest.partition("/")[0]


def is_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= len(str(MAX_PORT))
    return bool(host.strip()) and is_number and 1 <= int(port) <= MAX_PORT
