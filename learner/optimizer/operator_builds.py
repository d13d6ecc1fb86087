"""Prepares the building or loading of DeepSpeed's C++ operators by PyTorch.

A killed build leaves its lock behind, and PyTorch would wait for that lock for ever. And two versions of ninja can't
read each other's logs, so each would repeat the other's builds.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

OPERATORS = {"cpu_adam": "CPU Adam", "deepspeed_shm_comm": "shared-memory communication"}
# A build takes minutes; a build by another machine, on a network disk, or by another user can't be seen from here.
UNSEEN_BUILD_LIMIT_S = 600.0
_POLL_S = 2.0
_SECOND_LOOK_S = 1.0
_NETWORK_DISKS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "gluster", "fuse.sshfs", "fuse.gluster")


def prepare_to_build() -> list[Path]:
    """Have PyTorch build in this environment's folder, with its ninja; remove and return the locks of killed builds.

    Raises OSError.
    """
    scripts_dir = sysconfig.get_path("scripts")
    if (Path(scripts_dir) / "ninja").exists():
        os.environ["PATH"] = os.pathsep.join([scripts_dir, os.environ.get("PATH", os.defpath)])
    built_dir = compiled_extensions_dir()
    os.environ["TORCH_EXTENSIONS_DIR"] = str(built_dir)
    return remove_abandoned_locks(built_dir)


def compiled_extensions_dir() -> Path:
    """Return the folder of this user's C++ extensions for this environment and this kind of processor.

    `TORCH_EXTENSIONS_DIR` is that folder where it is set. With one folder for all, each environment would repeat for
    minutes what another has built, because the commands of a build name its environment. And of two nodes with one
    home, one would run what was built for the other's instructions.
    """
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    if given:
        return Path(given).expanduser()
    kind = "\n".join((sys.prefix, sys.version, importlib.metadata.version("torch"), _instruction_set()))
    return Path("~/.cache/torch_extensions").expanduser() / f"floe-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"


def _instruction_set() -> str:
    """Return the instructions that the first processor supports, as Linux reports them."""
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return platform.machine()


def abandoned_locks(built_dir: Path) -> list[Path]:
    """Return the locks of DeepSpeed's operators that no process of this machine holds.

    PyTorch's builder keeps its lock file open; when it is killed, the file stays and no process has it open.
    """
    locks = [lock for name in OPERATORS for lock in built_dir.glob(f"**/{name}/lock")]
    held = _open_files() if locks else set()
    return [lock for lock in locks if lock.resolve() not in held]


def remove_abandoned_locks(built_dir: Path, wait: Callable[[float], None] = time.sleep) -> list[Path]:
    """Remove the locks that no process holds, and return them.

    A lock whose builder this process could not see, on a network disk or of another user, must first be
    `UNSEEN_BUILD_LIMIT_S` old. Raises OSError where the folder can't be written.
    """
    removed: list[Path] = []
    while left := abandoned_locks(built_dir):
        # A builder closes its lock a moment before it removes it, so an abandoned one must be so at a second look.
        wait(_SECOND_LOOK_S)
        left = [lock for lock in left if lock in abandoned_locks(built_dir)]
        if not left:
            continue
        if any(_has_unseen_builder(lock) and _age_s(lock) < UNSEEN_BUILD_LIMIT_S for lock in left):
            wait(_POLL_S)
            continue
        with (built_dir / "floe-abandoned-locks").open("w") as turn:
            # Two ranks must not both decide: the second could remove the lock that the first one's builder just made.
            fcntl.flock(turn, fcntl.LOCK_EX)
            for lock in set(left) & set(abandoned_locks(built_dir)):
                lock.unlink(missing_ok=True)
                removed.append(lock)
    return removed


def _open_files() -> set[Path]:
    opened: set[Path] = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            opened.update(Path(one.path) for one in process.open_files())
    return opened


def _age_s(lock: Path) -> float:
    try:
        return time.time() - lock.stat().st_mtime
    except FileNotFoundError:  # its builder has finished
        return 0.0


def _has_unseen_builder(lock: Path) -> bool:
    with suppress(FileNotFoundError):  # its builder has finished
        if lock.stat().st_uid != os.getuid():
            return True
    return _is_on_network(lock.parent)


def _is_on_network(folder: Path) -> bool:
    resolved = folder.resolve()
    mounts = [one for one in psutil.disk_partitions(all=True) if resolved.is_relative_to(one.mountpoint)]
    kind = max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else ""
    return kind.startswith(_NETWORK_DISKS)
