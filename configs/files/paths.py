"""Relative paths start where they are written: in a file at its folder, on the command line at the working folder."""

from __future__ import annotations

import os
from pathlib import Path

RELATIVE_RULE = (
    "a relative path starts at the folder of the configuration file that has it, "
    "on the command line at the working folder"
)
MAX_PATH_BYTES = 4095  # Linux's
MAX_NAME_BYTES = 255
PATHLIKE = ("/", "./", "../", "~")
SERVERS_WITHOUT_SCHEME = ("databricks", "databricks-uc", "uc")  # what MLflow knows by a word


def placed_path(text: str, folder: Path) -> Path:
    """Return the path as an absolute one, `~` as the home folder. Raises ValueError that says what is not a path."""
    if not text.strip():
        raise ValueError("a path and not empty")
    if "://" in text:
        raise ValueError("a path on this machine and no address")
    if len(text.encode(errors="surrogateescape")) > MAX_PATH_BYTES or any(
        len(part.encode(errors="surrogateescape")) > MAX_NAME_BYTES for part in text.split("/")
    ):
        raise ValueError(f"a path of at most {MAX_PATH_BYTES} bytes whose names have {MAX_NAME_BYTES} at most")
    try:
        given = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path whose ~ stands for a home folder that there is: write it out") from None
    if given.is_absolute():
        return given
    try:
        return Path(os.path.abspath(folder)) / given
    except OSError:
        raise ValueError("an absolute path while your working folder is gone") from None


def placed_model(name: str, folder: Path) -> str:
    """Return a folder as an absolute path; other names (a hub's, embedded ones) as they are."""
    if not name.startswith(PATHLIKE) and name not in (".", "..") and not os.path.isdir(folder / name):
        return name
    return str(placed_path(name, folder))


def local_model(path: str) -> Path | None:
    """Return the folder of a `model.path` that names one, as `placed_model` gave it; None for a name."""
    return Path(path) if os.path.isabs(path) and os.path.isdir(path) else None


def placed_records(uri: str, folder: Path) -> str:
    """Return MLflow's folder as an absolute path, and the address of a server as it is. Raises ValueError."""
    if uri in SERVERS_WITHOUT_SCHEME or ":" in uri.partition("/")[0]:
        return uri
    return str(placed_path(uri, folder))
