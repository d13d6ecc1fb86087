"""The control groups that this process is in, of either version: the places of their limits on memory and CPU time.

Slurm, systemd and Kubernetes set a limit on a group anywhere between the process's own and the root, and each holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNIFIED = "0"  # the number of version 2's tree


def group_folders(controller: str, groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> tuple[Path, ...]:
    """Return the folders of this process's groups that may limit what `controller` counts, the innermost first.

    Where the process's own group can't be seen, as in a container without /proc, the roots are left.
    """
    found: dict[Path, None] = {}
    for root, path in (*_memberships(controller, groups, membership), (groups, ""), (groups / controller, "")):
        innermost = _innermost(root, path)
        for folder in (innermost, *innermost.parents):
            if folder.is_dir():
                found[folder] = None
            if folder == root:
                break
    return tuple(found)


def _memberships(controller: str, groups: Path, membership: Path) -> Iterator[tuple[Path, str]]:
    """Yield the roots of the trees, and the process's path below each."""
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else ():
        number, controllers, path = line.split(":", 2)
        if number == UNIFIED:
            yield groups, path
            yield groups / "unified", path  # next to trees of version 1
        elif controller in controllers.split(","):
            yield groups / controller, path
            yield groups / controllers, path


def _innermost(root: Path, path: str) -> Path:
    """Return the group's folder. A container may see its own group as the root, and the path as its host does."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # a group outside of what can be seen
        return root
    ends = (root.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((folder for folder in ends if folder.is_dir()), root)
