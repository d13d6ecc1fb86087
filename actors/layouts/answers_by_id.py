"""EHRSQL: questions about two hospitals, some without an answer; the form of 2024 has the golds in a separate file."""

from __future__ import annotations

from pathlib import Path

from floe.actors.layouts.interface import ByName, Layout
from floe.actors.questions.questions import first_record
from floe.actors.records.record_files import Record, read_records
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular_text

LABELS = "label.json"


def records(path: Path) -> list[Record]:
    """Return the records; a question that can't be answered has that as its fault. Golds may be in a file by id."""
    labels = path.with_name(LABELS)
    golds = parsed_json(read_regular_text(labels)) if labels.is_file() else {}
    if not isinstance(golds, dict):
        raise UserError(f"{labels} is no JSON object of golds by id: correct it.")
    return [_record(record, golds) for record in read_records(path)]


def _record(record: Record, golds: dict[str, object]) -> Record:
    value = record.value
    if not isinstance(value, dict):
        return record
    gold = value.get("query", golds.get(str(value.get("id"))))
    is_impossible = value.get("is_impossible") is True or gold in ("null", "nan", None)
    fault = "is a question that can't be answered from the database (is_impossible)" if is_impossible else ""
    return Record(where=record.where, index=record.index, value=value | {"query": gold}, fault=record.fault or fault)


def _is_ours(path: Path) -> bool:
    return not {"is_impossible", "t_tag"}.isdisjoint(first_record(path))


LAYOUT = Layout(
    name="ehrsql",
    summary="EHRSQL: train.json, valid.json, test.json (or data.json and label.json), databases/",
    find=ByName(
        splits=(("train", ("train.json",)), ("test", ("valid.json", "test.json")), ("all", ("data.json",))),
        is_ours=_is_ours,
    ),
    records=records,
)
