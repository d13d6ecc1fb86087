"""What PyTorch needs before it builds or loads DeepSpeed's C++ operators.

A killed build leaves its lock behind, and PyTorch would wait for that lock's end for ever. And two versions of ninja
can't read each other's logs, so each of them would build anew what the other has built.
"""

from __future__ import annotations

import fcntl
import os
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

OPERATORS = {"cpu_adam": "CPU Adam", "deepspeed_shm_comm": "shared-memory communication"}
# A build takes minutes; one by another machine, on a network disk, or by another user can't be seen from here.
UNSEEN_BUILD_LIMIT_S = 600.0
_POLL_S = 2.0
_SECOND_LOOK_S = 1.0
_NETWORK_DISKS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "gluster", "fuse.sshfs", "fuse.gluster")


def prepare_to_build() -> list[Path]:
    """Remove the locks of killed builds, take this environment's ninja; return the locks. Raises OSError."""
    scripts_dir = sysconfig.get_path("scripts")
    if (Path(scripts_dir) / "ninja").exists():
        os.environ["PATH"] = os.pathsep.join([scripts_dir, os.environ.get("PATH", os.defpath)])
    return remove_abandoned_locks(compiled_extensions_dir())


def compiled_extensions_dir() -> Path:
    """Return where PyTorch keeps the C++ extensions that it has compiled for this user."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or "~/.cache/torch_extensions").expanduser()


def abandoned_locks(built_dir: Path) -> list[Path]:
    """Return the locks of DeepSpeed's operators that no process of this machine holds.

    PyTorch's builder keeps its lock file open; when it is killed, the file stays and nobody has it open.
    """
    locks = [lock for name in OPERATORS for lock in built_dir.glob(f"**/{name}/lock")]
    held = _open_files() if locks else set()
    return [lock for lock in locks if lock.resolve() not in held]


def remove_abandoned_locks(built_dir: Path, wait: Callable[[float], None] = time.sleep) -> list[Path]:
    """Remove the locks that no process holds, and return them.

    One whose builder this process could not see, on a network disk or of another user, must be
    `UNSEEN_BUILD_LIMIT_S` old first. Raises OSError where the folder can't be written.
    """
    removed: list[Path] = []
    while left := abandoned_locks(built_dir):
        # A builder closes its lock a moment before it removes it: what is abandoned is so at a second look.
        wait(_SECOND_LOOK_S)
        left = [lock for lock in left if lock in abandoned_locks(built_dir)]
        if not left:
            continue
        if any(_has_unseen_builder(lock) and _age_s(lock) < UNSEEN_BUILD_LIMIT_S for lock in left):
            wait(_POLL_S)
            continue
        with (built_dir / "floe-abandoned-locks").open("w") as turn:
            # Two ranks must not both judge: the second could remove the lock that the first one's builder just made.
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
