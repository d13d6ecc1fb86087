"""Data sets with plain records under other names: Hugging Face copies, KaggleDBQA, SynSQL."""

from __future__ import annotations

from pathlib import Path

from floe.actors.layouts.interface import ByName, Layout
from floe.actors.questions.questions import first_record

SYNSQL_FIELDS = {"sql_complexity", "question_style"}


def _is_synsql(path: Path) -> bool:
    return first_record(path).keys() >= SYNSQL_FIELDS


SYNSQL = Layout(
    name="synsql",
    summary="SynSQL-2.5M: data.json with sql, external_knowledge and cot, databases/",
    find=ByName(splits=(("all", ("data.json", "*.json")),), is_ours=_is_synsql),
)
KAGGLEDBQA = Layout(
    name="kaggledbqa",
    summary="KaggleDBQA: examples/<db>_fewshot.json and <db>_test.json, databases/",
    find=ByName(splits=(("train", ("*_fewshot.json", "*_train.json")), ("test", ("*_test.json",)))),
)
HUB = Layout(
    name="hub",
    summary="copies on Hugging Face: train-*.parquet (or .json, .jsonl), validation-*, test-*, databases/",
    find=ByName(
        splits=(
            ("train", ("train-*.parquet", "train-*.json*", "train.parquet", "train.jsonl")),
            ("test", ("dev-*.*", "validation-*.*", "test-*.*", "dev.jsonl", "validation.jsonl", "test.jsonl")),
        ),
        databases=("databases", "database", "train_databases", "dev_databases"),
    ),
)
