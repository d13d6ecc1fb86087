"""Runs one part of the record in its own process, whose threads and memory are gone when it ends."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

from floe.cluster.record.maker import today
from floe.cluster.record.part_result import PartResult
from floe.cluster.record.parts import Setting, by_name, maker_of
from floe.configs.errors import EXIT_CODE_FAULT, UserError
from floe.configs.files.whole_files import write_whole

PATHS = ("home_dir", "work_dir", "geoquery_dir")


def arguments_of(part: str, setting: Setting, result_file: Path) -> list[str]:
    """Return the arguments of `main`."""
    told = asdict(setting)
    told |= {name: None if told[name] is None else str(told[name]) for name in PATHS}
    return [part, json.dumps(told), str(result_file)]


def main(part: str, told: str, result_file: str) -> None:
    given = json.loads(told)
    paths = {name: None if given[name] is None else Path(given[name]) for name in PATHS}
    result = result_of(part, Setting(**given | paths))
    write_whole(Path(result_file), json.dumps(result.record(), indent=1))


def result_of(part: str, setting: Setting) -> PartResult:
    """Return the part's result; a fault in it makes it incomplete, and its trace goes to stderr."""
    started_s = time.monotonic()
    try:
        with redirect_stdout(sys.stderr):
            found: PartResult = maker_of(by_name(part))(setting)
    except Exception as fault:
        if not isinstance(fault, UserError):
            traceback.print_exc()
        why = str(fault) if isinstance(fault, UserError) else f"{type(fault).__name__}: {_first_line(fault)}"
        found = PartResult(part=part, is_complete=False, why=why)
    return replace(found, seconds=round(time.monotonic() - started_s, 1), date=today())


def _first_line(fault: Exception) -> str:
    return next(iter(str(fault).splitlines()), "")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE_FAULT))  # so that a run that it started is ended too
    main(*sys.argv[1:])
