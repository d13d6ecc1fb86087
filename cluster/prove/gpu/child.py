"""Runs one part in its own process, whose memory and contexts are gone when it ends."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from floe.cluster.prove.gpu.findings import Figures, Line, PartResult, Setting, Verdict
from floe.cluster.prove.gpu.parts import by_number, prover_of
from floe.configs.errors import UserError

PATHS = ("home_dir", "scratch_dir", "tokenizer_dir")


def arguments_of(number: int, setting: Setting, result_file: Path) -> list[str]:
    """Return the arguments of `main`."""
    told = {name: str(value) if name in PATHS else value for name, value in asdict(setting).items()}
    return [str(number), json.dumps(told), str(result_file)]


def main(number: str, told: str, result_file: str) -> None:
    given = json.loads(told)
    setting = Setting(**given | {name: Path(given[name]) for name in PATHS})
    result = result_of(int(number), setting)
    Path(result_file).write_text(json.dumps(result.record()), encoding="utf-8")


def result_of(number: int, setting: Setting) -> PartResult:
    """Return the part's findings; a fault in it is a failed line, and its trace goes to stderr."""
    result, part = PartResult(is_quick=setting.is_quick), by_number(number)
    try:
        for found in prover_of(part)(setting):
            if isinstance(found, Figures):
                result.figures |= found.values
            else:
                result.lines.append(found)
                print(found.shown(), flush=True)
    except Exception as fault:
        if not isinstance(fault, UserError):
            traceback.print_exc()
        why = str(fault) if isinstance(fault, UserError) else f"{type(fault).__name__}: {_first_line(fault)}"
        result.lines.append(Line(name=part.name, verdict=Verdict.FAILED, why=why))
    return result


def _first_line(fault: Exception) -> str:
    return next(iter(str(fault).splitlines()), "")


if __name__ == "__main__":
    main(*sys.argv[1:])
