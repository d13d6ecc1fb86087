"""Folders from public reports of people who prepare data, and what floe makes of them, a row for each file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reported_preparation import FOLDER, TOKENIZER, rows

# The row's beginning, and words that it holds.
EXPECTED = {
    "bird-both-files-count-from-0/.": ("read: 6 kept", []),
    "bird-dev-of-2025/.": ("read: 7 kept", []),
    "bird-doubled-folder/train": ("read: 7 kept", []),
    "bird-filtered-training-set/.": ("read: 7 kept", []),
    "bird-nested/.": ("read: 6 kept", []),
    "defog-csv/.": ("read: 1 kept", []),
    "dr-spider/.": ("read: 7 kept", []),
    "ehrsql/.": ("read: 8 kept; dropped: bad_record 2", []),
    "livesqlbench/.": ("refused", ["needs the knowledge 7"]),
    "mini-dev-of-hugging-face/.": ("read: 7 kept", []),
    "sparc-multi-turn/.": ("read: 6 kept", []),
    "spider-release-zip/spider_data": ("read: 7 kept", ["test.json is not used"]),
    "spider2-lite/.": ("read: 1 kept; dropped: bad_record 1", []),
    "without-databases/wikisql": ("refused", ["no databases folder"]),
    "benchmark-prediction-files/dev.json": ("read: 7 kept", []),
    "db-endings-elsewhere/dot_db/q.json": ("read: 7 kept", []),
    "db-endings-elsewhere/flat/q.json": ("read: 7 kept", []),
    "db-endings-elsewhere/sqlite3_other_case/q.json": ("read: 7 kept", []),
    "identifiers/questions.json": ("read: 3 kept; dropped: empty_result 1", []),
    "json-forms/bom.json": ("read: 7 kept", []),
    "json-forms/comment.json": ("refused", ["neither a JSON list nor JSON lines"]),
    "json-forms/crlf.jsonl": ("read: 7 kept", []),
    "json-forms/empty.json": ("refused", ["neither a JSON list nor JSON lines"]),
    "json-forms/latin1.json": ("refused", ["is not UTF-8 text"]),
    "json-forms/lines.json": ("read: 7 kept", []),
    "json-forms/ls.jsonl": ("read: 7 kept", []),
    "json-forms/nested.json": ("read: 7 kept", []),
    "json-forms/pretty_lines.jsonl": ("read: 7 kept", []),
    "json-forms/single.json": ("read: 1 kept", []),
    "json-forms/trailing.json": ("refused", ["neither a JSON list nor JSON lines"]),
    "json-forms/truncated.json": ("refused", ["neither a JSON list nor JSON lines"]),
    "json-forms/utf16.json": ("read: 7 kept", []),
    "json-forms/z.json.gz": ("read: 7 kept", []),
    "long-example-values/questions.json": ("read: 4 kept", []),
    "lower-case-sql-field/dev.json": ("read: 7 kept", []),
    "lower-case-sql-field/synsql.json": ("read: 7 kept", []),
    "one-bad-record/q.json": ("read: 7 kept; dropped: bad_record 1", []),
    "one-bad-record/ehrsql_null.json": ("read: 7 kept; dropped: bad_record 1", []),
    "optional-fields-of-other-types/evidence_list.json": ("read: 7 kept", ["a list, read line by line"]),
    "optional-fields-of-other-types/float_ids.json": ("read: 7 kept", []),
    "optional-fields-of-other-types/int_difficulty.json": ("read: 7 kept", []),
    "own-csv-and-one-db/csv/questions.csv": ("read: 2 kept", []),
    "own-csv-and-one-db/json/questions.json": ("read: 3 kept", []),
    "pandas-nan-evidence/q.json": ("read: 7 kept", []),
    "synsql-db-ids/data.json": ("read: 15 kept", []),
    "schema-of-300-tables/questions.json": ("read: 0 kept; dropped: empty_result 4", []),
    "template-opens-think/questions.json": ("read: 4 kept", []),
    "virtual-table-of-absent-module/questions.json": ("read: 8 kept", []),
    "wal-with-log/q.jsonl": ("read: 1 kept", []),
    "wrapped-json/by_id/train.json": ("read: 7 kept", []),
    "wrapped-json/data_list/train.json": ("read: 7 kept", []),
    "without-databases/.": (
        "read: 1 kept; dropped: degenerate 2",
        ["layout of schema-text", "2 databases have no row"],
    ),
    "comments-in-ddl/ddlcomments": ("shown", ["-- the year of building"]),
    "declared-types/gen": ("shown", ["v ANY"]),
    "declared-types/types": ("shown", ["e TIMESTAMP WITH TIME ZONE"]),
    "description-with-open-quote/d_badquote": ("shown", ["a quote that is never closed"]),
    "descriptions-other/d_cp1252": ("shown", ["not the county"]),
    "descriptions-other/d_dup": ("shown", ["first"]),
    "descriptions-other/d_empty": ("shown", ["the file is empty"]),
    "descriptions-other/d_mac": ("shown", ["shops.csv"]),
    "descriptions-other/d_missing": ("shown", ["not_there"]),
    "descriptions-other/d_multiline": ("shown", ["first line second line"]),
    "descriptions-other/d_noheader": ("shown", ["there is no column original_column_name"]),
    "descriptions-other/d_nul": ("shown", ["number of the shop"]),
    "descriptions-other/d_otherheader": ("shown", ["how it is called"]),
    "descriptions-other/d_semicolon": ("shown", ["number of the shop"]),
    "descriptions-other/d_upper": ("shown", ["number of the shop"]),
    "descriptions-other/d_utf16": ("shown", ["number of the shop"]),
    "foreign-key-to-nowhere/fks": ("shown", ["FOREIGN KEY (user_id) REFERENCES users (id)"]),
    "fts-shadow-tables/fts": ("shown", ["CREATE TABLE note_fts"]),
    "hot-journal/hotjournal": ("refused", ["of a write that was broken off"]),
    "no-tables/no_tables": ("refused", ["has no table to ask about"]),
    "no-tables/only_views": ("shown", ["CREATE VIEW numbers"]),
    "no-tables/zero_bytes": ("refused", ["is empty (0 bytes)"]),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    for folder in (FOLDER, TOKENIZER):
        if not folder.is_dir():
            pytest.skip(f"the reported folders are not at ../shared/data ({folder})")
    return dict(rows(Path(tmp_path_factory.mktemp("prepared"))))


@pytest.mark.long
def test_each_file_is_read_dropped_or_refused_as_it_should_be(found):
    wrong = {
        name: (found.get(name), begin, words)
        for name, (begin, words) in EXPECTED.items()
        if not found.get(name, "").startswith(begin) or not all(one in found[name] for one in words)
    }
    assert not wrong
    assert found.keys() == EXPECTED.keys()
