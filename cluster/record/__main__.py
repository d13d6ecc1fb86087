"""`make record`: runs the parts that are not done yet, each in its own process, and writes record and page."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.contained.own_code import IMPORT_ROOT, module_command
from floe.cluster.environment import environment_of_floe, home_folder
from floe.cluster.record.child import arguments_of
from floe.cluster.record.maker import maker
from floe.cluster.record.page import page
from floe.cluster.record.part_result import PartResult
from floe.cluster.record.parts import PARTS, Part, Setting, chosen_parts
from floe.cluster.record.processes import run_to_end
from floe.cluster.record.version_record import Maker, VersionRecord, read_records
from floe.configs.errors import EXIT_CODE_FAULT, EXIT_CODE_USER_ERROR, UserError
from floe.configs.files.whole_files import write_whole

DOCS = IMPORT_ROOT / "docs"
NOT_RUN = "it was not run yet"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every asked part is complete, 1 when one is not, and 2 for a request that can't be run."""
    given = _parser().parse_args(arguments)
    try:
        if given.page:
            _write_page(given.docs)
            return 0
        return _record(given)
    except UserError as fault:
        print(f"floe: {fault}", file=sys.stderr)
        return EXIT_CODE_USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m floe.cluster.record", description=__doc__)
    names = ", ".join(part.name for part in PARTS)
    parser.add_argument("--parts", default="", help=f"some of {names}, as in curve,trl; all when left out")
    parser.add_argument("--geoquery", type=Path, default=None, help="folder that floe prepare wrote of GeoQuery")
    parser.add_argument("--again", action="store_true", help="run parts again that are complete")
    parser.add_argument("--quick", action="store_true", help="a trial at the smallest sizes; needs --docs")
    parser.add_argument("--home", type=Path, default=None, help="run.home; FLOE_HOME or ~/.floe when left out")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where record/VERSION.json and record.md are written")
    parser.add_argument("--page", action="store_true", help="only write record.md from the files")
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workplace:
    """Folder of the parts' results of one version, commit and size."""

    home_dir: Path
    maker: Maker

    @property
    def folder(self) -> Path:
        size = "-quick" if self.maker.is_quick else ""
        return self.home_dir / "record" / f"{self.maker.version}-{self.maker.commit}{size}"

    def result_file(self, part: Part) -> Path:
        return self.folder / f"{part.name}.json"

    def result(self, part: Part) -> PartResult | None:
        """Return what an earlier call found; None where there is nothing that can be read."""
        path = self.result_file(part)
        try:
            return PartResult.of_record(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            print(f"{path} can't be read ({fault}): the part is run again", file=sys.stderr)
            return None

    def record(self) -> VersionRecord:
        results = {part.name: self.result(part) for part in PARTS}
        parts = {
            name: PartResult(part=name, is_complete=False, why=NOT_RUN) if found is None else found
            for name, found in results.items()
        }
        return VersionRecord(maker=self.maker, date=max(part.date for part in parts.values()), parts=parts)


def _record(given: argparse.Namespace) -> int:
    parts = chosen_parts(given.parts)
    if given.quick and given.docs == DOCS:
        raise UserError(
            "A trial is no record of the version: give a folder of its own with --docs, as in --docs trial."
        )
    home_dir = (given.home or home_folder()).expanduser().resolve()
    workplace = _Workplace(home_dir=home_dir, maker=maker(given.quick))
    workplace.folder.mkdir(parents=True, exist_ok=True)
    print(f"record {workplace.maker.version}, commit {workplace.maker.commit}: parts in {workplace.folder}", flush=True)
    all_complete = True
    for part in parts:
        result = workplace.result(part)
        if result is None or not result.is_complete or given.again:
            print(f"{part.name}: {part.what}, about {part.minutes} min", flush=True)
            result = _run(part, given, workplace)
        _show(result)
        all_complete = all_complete and result.is_complete
        _write(workplace, given.docs)
    return 0 if all_complete else EXIT_CODE_FAULT


def _run(part: Part, given: argparse.Namespace, workplace: _Workplace) -> PartResult:
    setting = Setting(
        home_dir=workplace.home_dir,
        work_dir=workplace.folder / part.name,
        geoquery_dir=given.geoquery,
        is_quick=given.quick,
    )
    result_file, log_file = workplace.result_file(part), workplace.folder / f"{part.name}.log"
    result_file.unlink(missing_ok=True)
    setting.work_dir.mkdir(exist_ok=True)
    command = module_command("floe.cluster.record.child", *arguments_of(part.name, setting, result_file))
    with log_file.open("ab") as log:
        code = run_to_end(command, environment_of_floe(), log, subprocess.STDOUT)
    found = workplace.result(part)
    if found is None:
        found = PartResult(part=part.name, is_complete=False, why=f"its process ended with {code}: see {log_file}")
    return found


def _write(workplace: _Workplace, docs: Path) -> None:
    record = workplace.record()
    path = docs / "record" / f"{record.maker.version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record.write(path)
    _write_page(docs)


def _write_page(docs: Path) -> None:
    write_whole(docs / "record.md", page(read_records(docs / "record")))


def _show(result: PartResult) -> None:
    state = f"complete, {result.seconds:.0f} s" if result.is_complete else f"not complete: {result.why}"
    print(f"  {result.part}  {state}", flush=True)
    for one in result.figures:
        value = "not measured" if one.value is None else f"{one.value:.3g}"
        bar = f" ({one.bar}{', MISSED' if one.misses else ''})" if one.bar else ""
        print(f"    {one.name}: {value}{bar}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE_FAULT))  # so that the part's process is ended too
    sys.exit(main())
