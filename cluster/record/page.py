"""`docs/record.md`: the history of the records, made from their files (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from floe.cluster.record.curve_check import CurveRange, range_of
from floe.cluster.record.parts import PARTS
from floe.cluster.record.version_record import CURVE, VersionRecord

HEAD = """\
# The record

What each version of floe learns, and how fast it is, measured by one command:

```sh
make record                          # every part that is not done; a second call goes on
make record GEOQUERY=prepared/geo    # the folder that floe prepare wrote; without it this part is left out
make record PARTS="curve trl"        # these parts alone
make record AGAIN=1 PARTS=sync       # again, though it is complete
```

It writes a file named after the version into `docs/record/`, and this page. Each part runs in a process of its own.
What is finished lies in `run.home/record/VERSION-COMMIT/`, with a log for each part: a call that was ended loses the
part that it was at, and a training goes on from its last checkpoint. Another commit begins anew. Figures are ratios, so
that machines can be compared; some have a bar. `tests/test_record.py` compares the newest record with its bars, and
this page, which `python -m floe.cluster.record --page` makes, with the files. A known miss stands with its reason in
`cluster/record/known_misses.py`.
"""
PARTS_HEAD = """
## Parts

| part | what is run | about, on two cores with AVX-512 |
| --- | --- | --- |
"""
CURVE_HEAD = """
## The curve

`configs/curve.yaml` trains the tiny model without a warm start on 16 questions of the demo, all of
them in each of 16 steps. A healthy run's mean reward rises by at least half of the smallest rise among the record's
five seeds, from the first four steps to the last four, and ends within the 99 % prediction interval of their ends.
A loss with the wrong sign, an adapter that the learner leaves as it is, and rewards shuffled within each step fail this
(`test_curve_runs.py`). `make ci` has a healthy run that is killed and resumed, and one fault, in the precision that
`auto` takes; `make soak` has five seeds, both precisions and every fault.
"""
NO_RECORD = "\nThere is no record yet.\n"


def page(records: Sequence[VersionRecord]) -> str:
    """Return the page over the records, the oldest first."""
    parts = "".join(f"| {part.name} | {part.what} | {part.minutes} min |\n" for part in PARTS)
    found = HEAD + PARTS_HEAD + parts + CURVE_HEAD
    if curves := _curve_lines(records):
        found += "\n" + curves
    found += "\n## Records\n"
    if not records:
        return found + NO_RECORD
    return found + "\n" + _made(records) + "\n## Figures\n\nThe newest record comes first.\n" + _figures(records)


def _made(records: Sequence[VersionRecord]) -> str:
    lines = ["| version | date | commit | processor | precision | libraries | parts |", "| --- " * 7 + "|"]
    for record in reversed(records):
        made = record.maker
        libraries = ", ".join(f"{name} {version}" for name, version in made.libraries.items())
        missing = [f"{name}: {part.why}" for name, part in record.parts.items() if not part.is_complete]
        state = "; ".join(missing) if missing else "complete"
        cells = (
            made.version, record.date, made.commit, f"{made.num_cores} cores, {made.processor}", record.precision,
            libraries, f"a trial; {state}" if made.is_quick else state,
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(one) for one in cells) + " |")
    return "\n".join(lines) + "\n"


def _figures(records: Sequence[VersionRecord]) -> str:
    """Return a table for each part, with a row for each record and figure."""
    found = []
    for part in PARTS:
        rows = [
            f"| {record.maker.version} | {_cell(one.name)} | {_number(one.value)} | {one.bar or '-'} "
            f"| {_seconds(record.parts[part.name].seconds)} |"
            for record in reversed(records)
            if part.name in record.parts
            for one in record.parts[part.name].figures
        ]
        if rows:
            head = "| version | figure | measured | bar | part took |\n| --- | --- | --- | --- | --- |\n"
            notes = _notes(records, part.name)
            found.append(f"\n### {part.name}\n\n{head}" + "\n".join(rows) + f"\n{notes}")
    return "".join(found)


def _notes(records: Sequence[VersionRecord], part: str) -> str:
    """Return what the newest record that has the part says of how it was run."""
    newest = next(record for record in reversed(records) if part in record.parts and record.parts[part].figures)
    notes = [f"- {_cell(note)}" for note in newest.parts[part].notes]
    return f"\n{newest.maker.version}:\n\n" + "\n".join(notes) + "\n" if notes else ""


def _curve_lines(records: Sequence[VersionRecord]) -> str:
    rows = [_curve_row(record) for record in reversed(records) if _has_curves(record)]
    head = "| version | precision | least rise | end | mean reward by step, first seed |\n" + "| --- " * 5 + "|\n"
    return head + "\n".join(rows) + "\n" if rows else ""


def _has_curves(record: VersionRecord) -> bool:
    return CURVE in record.parts and record.parts[CURVE].is_complete


def _curve_row(record: VersionRecord) -> str:
    part = record.parts[CURVE]
    wanted: CurveRange = range_of(list(part.curves.values()))
    first = next(iter(part.curves.values()))
    steps = " ".join(f"{reward:.2f}" for reward in first)
    return (
        f"| {record.maker.version} | {part.precision} | {wanted.least_rise:.3f} | {wanted.low:.3f} to "
        f"{wanted.high:.3f} | {steps} |"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
