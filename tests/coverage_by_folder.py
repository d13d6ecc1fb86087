"""Prints line coverage by folder: `python -m tests.coverage_by_folder REPORT.json`, the end of `make coverage`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path, PurePath


def table(report: dict) -> list[str]:
    """Return a line for each folder of floe, two levels deep, and one for all, from coverage's JSON report."""
    lines: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, of_file in report["files"].items():
        folder = "/".join(PurePath(path).parts[:-1][:2])
        for name in (folder, "all"):
            lines[name][0] += of_file["summary"]["covered_lines"]
            lines[name][1] += of_file["summary"]["num_statements"]
    width = max(map(len, lines))
    ordered = [*sorted(lines.keys() - {"all"}), "all"]
    return [
        f"{name:{width}}  {lines[name][0]:6} of {lines[name][1]:6}  {lines[name][0] / max(lines[name][1], 1):6.1%}"
        for name in ordered
    ]


if __name__ == "__main__":
    print("\n".join(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
