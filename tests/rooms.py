"""Counts the rooms of the source tree, the arrows between them and the circles: `python -m tests.rooms [FOLDER]`.

A room is a sub-folder of one of the top-level folders with its own sub-folders, or a file that lies loose in one. An
arrow is an import from one room into another, however many names it takes. A circle is a set of rooms that reach each
other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("actors", "cluster", "configs", "learner", "reward_service")
NAMESPACE = "floe."


def rooms_of(package: str, root: Path = ROOT) -> dict[str, list[Path]]:
    """Return the files of every room of a top-level folder, by the room's path."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted((root / package).rglob("*.py")):
        inner = path.relative_to(root / package).parts
        if inner == ("__init__.py",):
            continue
        name = f"{package}/{inner[0]}".removesuffix(".py")
        rooms.setdefault(name, []).append(path)
    return rooms


def imported_modules(path: Path) -> Iterator[str]:
    """Yield each dotted name that the file imports from the project, late imports and those for types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix(NAMESPACE) for name in names)


def arrows_of(rooms: dict[str, list[Path]]) -> set[tuple[str, str]]:
    """Return (importing room, imported room) for rooms of the given ones alone."""
    arrows = set()
    for room, files in rooms.items():
        for path in files:
            for module in imported_modules(path):
                target = "/".join(module.split(".")[:2])
                if target in rooms and target != room:
                    arrows.add((room, target))
    return arrows


def circles_of(arrows: set[tuple[str, str]]) -> list[set[str]]:
    """Return the sets of at least two rooms that reach each other."""
    reached = {room: _reach(room, arrows) for arrow in arrows for room in arrow}
    circles: list[set[str]] = []
    for room, found in reached.items():
        circle = {other for other in found if room in reached[other]}
        if len(circle) > 1 and circle not in circles:
            circles.append(circle)
    return circles


def _reach(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        room = waiting.pop()
        for source, target in arrows:
            if source == room and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def main(packages: tuple[str, ...] = PACKAGES) -> None:
    """Print a line for each top-level folder, and every circle."""
    for package in packages:
        rooms = rooms_of(package)
        arrows = arrows_of(rooms)
        num_loose = sum(files[0].parent == ROOT / package for files in rooms.values())
        largest = max(rooms, key=lambda room: len(rooms[room]))
        print(
            f"{package}: {len(rooms)} rooms ({len(rooms) - num_loose} folders, {num_loose} loose files), "
            f"{len(arrows)} arrows, largest {largest} with {len(rooms[largest])} files"
        )
        for circle in circles_of(arrows):
            print(f"  circle: {', '.join(sorted(circle))}")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or PACKAGES)
