"""`floe status`: where a run is, what it waits for, and whether its driver is alive."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floe.cluster.health.finding import HealthFinding
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.run_folder.status import as_found, describe
from floe.cluster.run_folder.status_file import is_driver_alive, read_status
from floe.cluster.terminal.run_view import number, percent
from floe.cluster.terminal.shown_text import say
from floe.cluster.tracking.last_records import last_by_source, last_findings

NUM_FINDINGS = 3  # the newest ones


def status(run_dir: Path, as_json: bool) -> None:
    """Print the status, as text or as JSON. Raises UserError for a folder without a run."""
    run_dir = run_dir.expanduser().resolve()
    written = read_status(run_dir)
    is_alive = is_driver_alive(written)
    found = as_found(written, is_alive)
    by_source = last_by_source(run_dir / METRICS_FILE)
    findings = last_findings(run_dir / METRICS_FILE)[:NUM_FINDINGS]
    if as_json:
        more: dict[str, Any] = {"is_driver_alive": is_alive} | ({"by_source": by_source} if by_source else {})
        more |= {"health_findings": [asdict(one) for one in findings]} if findings else {}
        print(json.dumps(asdict(found) | more, indent=2))
    else:
        lines = describe(found, run_dir, time.time(), is_alive)
        lines += [source_line(name, numbers) for name, numbers in by_source.items()]
        say("\n".join([*lines, *map(finding_line, findings)]))


def finding_line(found: HealthFinding) -> str:
    """Return a line for a person about a finding of the health guard."""
    return f"  health, step {found.step} ({found.action}): {found.text}"


def source_line(name: str, numbers: Mapping[str, float]) -> str:
    """Return a line for a person about one source of a mixture in the last step that ended."""
    num_questions = numbers.get("num_questions", 0)
    parts = [
        f"reward {number(numbers.get('reward_mean'))}",
        f"{percent(numbers.get('correct_share', math.nan))} right",
        f"{percent(numbers.get('zero_variance_share', math.nan))} of groups with equal rewards",
        "1 question" if num_questions == 1 else f"{num_questions:.0f} questions",
    ]
    if "eval_greedy" in numbers:
        parts.append(
            f"{percent(numbers['eval_greedy'])} of {numbers.get('eval_num_questions', 0):.0f} held-back questions right"
        )
    return f"  {name}: {', '.join(parts)}"
