"""The folders of public reports about other people's data: what floe makes of each file, as one row of a table.

`python -m tests.reported_preparation` prints the table.
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from floe.actors.layouts.registry import layout_named
from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.prompting.prompts import created_tables
from floe.cluster.messages import Question
from floe.cluster.operations.prepare import PrepareOptions, prepare
from floe.cluster.preparation.sources import file_sources, layout_sources
from floe.configs.errors import UserError
from floe.configs.schema import PromptSection, RewardSection
from tests.command_line import REPOSITORY

FOLDER = REPOSITORY.parent / "shared" / "data" / "reported" / "preparation"
TOKENIZER = REPOSITORY.parent / "shared" / "tokenizers" / "qwen2.5-coder"
# Sources of each preparation: a layout and its folder, or a file of questions and its databases.
LAYOUTS = {
    "bird-both-files-count-from-0": ("bird", "."),
    "bird-dev-of-2025": ("auto", "."),
    "bird-doubled-folder": ("bird", "train"),
    "bird-filtered-training-set": ("auto", "."),
    "bird-nested": ("auto", "."),
    "defog-csv": ("auto", "."),
    "dr-spider": ("auto", "."),
    "ehrsql": ("auto", "."),
    "livesqlbench": ("auto", "."),
    "mini-dev-of-hugging-face": ("auto", "."),
    "sparc-multi-turn": ("auto", "."),
    "spider-release-zip": ("spider", "spider_data"),
    "spider2-lite": ("auto", "."),
    "without-databases": ("auto", "wikisql"),
}
FILES = {
    "benchmark-prediction-files": [("dev.json", "databases")],
    "db-endings-elsewhere": [
        ("dot_db/q.json", "dot_db/databases"), ("flat/q.json", "flat/databases"),
        ("sqlite3_other_case/q.json", "sqlite3_other_case/databases"),
    ],
    "identifiers": [("questions.json", "databases")],
    "json-forms": [
        (f"{name}", "databases") for name in (
            "bom.json", "comment.json", "crlf.jsonl", "empty.json", "latin1.json", "lines.json", "ls.jsonl",
            "nested.json", "pretty_lines.jsonl", "single.json", "trailing.json", "truncated.json", "utf16.json",
            "z.json.gz",
        )
    ],
    "long-example-values": [("questions.json", "databases")],
    "lower-case-sql-field": [("dev.json", "databases"), ("synsql.json", "databases")],
    "one-bad-record": [("q.json", "databases"), ("ehrsql_null.json", "databases")],
    "optional-fields-of-other-types": [
        ("evidence_list.json", "databases"), ("float_ids.json", "databases"), ("int_difficulty.json", "databases"),
    ],
    "own-csv-and-one-db": [("csv/questions.csv", "csv/sales.db"), ("json/questions.json", "json")],
    "pandas-nan-evidence": [("q.json", "databases")],
    "synsql-db-ids": [("data.json", "databases")],
    "schema-of-300-tables": [("questions.json", "databases")],
    "template-opens-think": [("questions.json", "databases")],
    "virtual-table-of-absent-module": [("questions.json", "databases")],
    "wal-with-log": [("q.jsonl", "databases")],
    "wrapped-json": [("by_id/train.json", "by_id/databases"), ("data_list/train.json", "data_list/databases")],
}  # fmt: skip
PROMPTS = ("comments-in-ddl", "declared-types", "description-with-open-quote", "descriptions-other",
           "foreign-key-to-nowhere", "fts-shadow-tables", "hot-journal", "no-tables")  # fmt: skip


def rows(place: Path) -> list[tuple[str, str]]:
    """Return a file or database, and what floe makes of it."""
    found: list[tuple[str, str]] = []
    for name, (layout, folder) in LAYOUTS.items():
        found.append((f"{name}/{folder}", _prepared_layout(FOLDER / name / folder, layout, place)))
    for name, files in FILES.items():
        found += [(f"{name}/{one}", _prepared_file(FOLDER / name, one, databases, place)) for one, databases in files]
    folder = FOLDER / "without-databases"
    found.append(("without-databases/.", _prepared_layout(folder, "auto", place)))
    for name in PROMPTS:
        for database in sorted((FOLDER / name / "databases").iterdir()):
            found.append((f"{name}/{database.name}", _shown(database)))
    return found


def _prepared_layout(folder: Path, layout: str, place: Path) -> str:
    try:
        sources, notes = layout_sources(folder, None, None if layout == "auto" else layout_named(layout), {})
    except UserError as refusal:
        return f"refused: {refusal}"
    return _prepared(sources, place, notes)


def _prepared_file(folder: Path, questions: str, databases: str, place: Path) -> str:
    try:
        return _prepared(file_sources(folder / questions, folder / databases), place, ())
    except UserError as refusal:
        return f"refused: {refusal}"


def _prepared(sources: tuple, place: Path, notes: tuple[str, ...]) -> str:
    with TemporaryDirectory(dir=place) as folder:
        destination = Path(folder) / "out"
        options = PrepareOptions(reward=RewardSection(num_workers=1), notes=notes, as_json=True)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                prepare(destination, sources, options)
        except UserError as refusal:
            return f"refused: {refusal}"
        manifest = json.loads((destination / "manifest.json").read_text())
        dropped = [json.loads(line) for line in (destination / "dropped.jsonl").read_text().splitlines()]
    kept = sum(manifest["counts"]["kept"].values())
    reasons = ", ".join(
        f"{reason} {number}" for reason, number in sorted(Counter(d["reason"] for d in dropped).items())
    )
    said = "; ".join(one for one in manifest["warnings"] if "is empty" not in one and "fewer databases" not in one)
    return f"read: {kept} kept" + (f"; dropped: {reasons}" if reasons else "") + (f"; said: {said}" if said else "")


def _shown(database: Path) -> str:
    settings = PromptSection(style="arctic", example_values=2, descriptions="values")
    try:
        encoder = PromptEncoder(TOKENIZER, database.parent, settings)
        encoder.encoded(Question(question_id="q", database_id=database.name, text="How many?", gold_sql=()))
    except UserError as refusal:
        return f"refused: {refusal}"
    text = created_tables(encoder._schema(database.name))
    said = "; ".join((*encoder.left_out, *encoder.unmatched_descriptions))
    return f"shown: {' '.join(text.split())}" + (f"; said: {said}" if said else "")


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        for file, what in rows(Path(name)):
            sys.stdout.write(f"{file} | {what.replace(str(FOLDER) + '/', '')}\n")
