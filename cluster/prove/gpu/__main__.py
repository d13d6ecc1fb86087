"""`make prove-gpu`: runs the parts in order, each in its own process, and stops at the first that fails."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe, home_folder
from floe.cluster.machine.card_figures import FOLDER, figures_of, slug_of, write_figures
from floe.cluster.prove.gpu.child import arguments_of
from floe.cluster.prove.gpu.findings import Line, PartResult, Setting, Verdict, not_here, without_packages
from floe.cluster.prove.gpu.parts import PARTS, Part, chosen_parts, is_installed
from floe.cluster.prove.gpu.record import ProofRecord
from floe.configs.errors import EXIT_CODE_FAULT, EXIT_CODE_USER_ERROR, UserError

PART_LIMIT_S = 590.0
TOKENIZERS = Path("../shared/tokenizers/qwen2.5-coder")
CPU = "cpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when nothing failed, 1 when a part did, and 2 for a request that can't be run."""
    given = _parser().parse_args(arguments)
    try:
        return _prove(given)
    except UserError as fault:
        print(f"floe: {fault}", file=sys.stderr)
        return EXIT_CODE_USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m floe.cluster.prove.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", CPU), default="cuda")
    parser.add_argument("--parts", default="", help=f"numbers from 1 to {len(PARTS)}, as in 2,3; all when left out")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions: some 10 minutes")
    parser.add_argument("--again", action="store_true", help="run parts again that have passed")
    parser.add_argument("--home", type=Path, default=None, help="run.home; FLOE_HOME or ~/.floe when left out")
    parser.add_argument("--out", type=Path, default=None, help="the record; HOME/gpu/proof-CARD.json when left out")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZERS, help="folder of Qwen2.5-Coder's tokenizer")
    return parser


def _prove(given: argparse.Namespace) -> int:
    parts = chosen_parts(given.parts)
    home_dir = (given.home or home_folder()).expanduser().resolve()
    card = CPU if given.device == CPU else card_name()
    path = given.out or home_dir / FOLDER / f"proof-{slug_of(card)}.json"
    record = ProofRecord.read(path, card)
    has_failed = False
    for part in parts:
        result = None if given.again else record.done(part, given.quick)
        is_new = result is None
        if result is None:
            result = run_part(part, given, home_dir, path)
            record.note(part, result)
        _show(part, result, is_new)
        if result.verdict is Verdict.FAILED:
            has_failed = True
            break
    table_file = path.with_suffix(".md")
    table_file.write_text(record.table(), encoding="utf-8")
    print(f"\n{record.table()}\nrecord {path}, table {table_file}")
    if given.device != CPU:
        print(f"figures for the memory plan {write_figures(home_dir, figures_of(card, record.figures))}")
    return EXIT_CODE_FAULT if has_failed else 0


def run_part(part: Part, given: argparse.Namespace, home_dir: Path, record_file: Path) -> PartResult:
    """Run it in its own process, or say why it can't be run here."""
    if given.device == CPU and part.why_not_on_cpu:
        return PartResult([not_here(part.name, part.why_not_on_cpu)], is_quick=given.quick)
    if missing := part.missing(given.device):
        return PartResult([without_packages(part.name, missing)], is_quick=given.quick)
    log_file = record_file.with_name(f"{record_file.stem}-part-{part.number}.log")
    log_file.parent.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    with TemporaryDirectory(prefix="floe-gpu-") as scratch:
        setting = Setting(
            device=given.device,
            is_quick=given.quick,
            home_dir=home_dir,
            scratch_dir=Path(scratch),
            tokenizer_dir=given.tokenizer.expanduser().resolve(),
        )
        result_file = Path(scratch) / "result.json"
        code = _run(
            module_command("floe.cluster.prove.gpu.child", *arguments_of(part.number, setting, result_file)), log_file
        )
        if result_file.is_file():
            result = PartResult.of_record(json.loads(result_file.read_text(encoding="utf-8")))
        else:
            result = PartResult([Line(name=part.name, verdict=Verdict.FAILED, why=_end(code))], is_quick=given.quick)
    result.seconds = time.monotonic() - started_s
    if result.verdict is Verdict.FAILED:
        print(f"log of part {part.number}: {log_file}", file=sys.stderr)
    return result


def _run(command: list[str], log_file: Path) -> int | None:
    """Return the exit code; None for a process that had to be ended."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment_of_floe(), start_new_session=True
        )
    try:
        return process.wait(timeout=PART_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end(code: int | None) -> str:
    return f"it did not end within {PART_LIMIT_S:.0f} s" if code is None else f"its process ended with {code}"


def card_name() -> str:
    """Return the name of the first card, as a separate process asks for it. Raises UserError where there is none."""
    if not is_installed("torch"):
        raise UserError("The package torch is not installed: install floe with its extra cuda, as 'make setup' does.")
    command = module_command("floe.cluster.prove.gpu.cuda")
    done = subprocess.run(command, env=environment_of_floe(), capture_output=True, text=True, timeout=PART_LIMIT_S)
    name = done.stdout.strip()
    if done.returncode or not name:
        raise UserError("PyTorch sees no GPU: install NVIDIA's driver and the extra cuda, or give DEVICE=cpu.")
    return name


def _show(part: Part, result: PartResult, is_new: bool) -> None:
    when = f"{result.seconds:.0f} s" if is_new else "from the record"
    print(f"{part.heading}  {result.verdict}, {when}", flush=True)
    for line in result.lines:
        print(f"     {line.shown()}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODE_FAULT))  # so that the part's process is ended too
    sys.exit(main())
