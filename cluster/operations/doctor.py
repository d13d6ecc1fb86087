"""`floe doctor`: every preflight check, a line each, before anything is trained."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Any

from rich.text import Text

from floe.cluster.preflight.examination import examine
from floe.cluster.preflight.finding import Finding, Level
from floe.cluster.terminal.progress import make_console
from floe.configs.errors import EXIT_CODE_USER_ERROR
from floe.configs.schema import RunConfig

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


def doctor(config: RunConfig, as_json: bool) -> int:
    """Print the findings, each as it is known, or all of them as JSON. The exit code is 2 when one is a fault."""
    console, found = make_console(), []
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):  # the libraries' own messages
        for finding in examine(config):
            found.append(finding)
            if not as_json:
                with redirect_stdout(stdout):
                    console.print(line(finding), soft_wrap=True)
    if as_json:
        print(json.dumps(as_record(found), indent=2))
    else:
        console.print(summary(found))
    return EXIT_CODE_USER_ERROR if any(one.level is Level.FAULT for one in found) else 0


def line(finding: Finding) -> Text:
    level = (f"{finding.level.value:<8}", STYLES[finding.level])
    return Text.assemble(level, f"{finding.name}: {' '.join(finding.sentence.split())}")


def as_record(findings: Sequence[Finding]) -> dict[str, Any]:
    counts = Counter(one.level for one in findings)
    return {
        "findings": [asdict(one) for one in findings],
        "num_ok": counts[Level.OK],
        "num_warnings": counts[Level.WARNING],
        "num_faults": counts[Level.FAULT],
    }


def summary(findings: Sequence[Finding]) -> str:
    counts = Counter(one.level for one in findings)
    return f"{counts[Level.OK]} ok, {counts[Level.WARNING]} warnings, {counts[Level.FAULT]} faults"
