"""Records of question files in the forms that people share, and the messages about other records."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest

from floe.actors.questions.questions import find_questions, read_questions
from floe.actors.records.fields import given_fields, guessed_fields
from floe.actors.records.record_files import read_records
from floe.configs.errors import UserError

ONE = {"db_id": "shop", "question": "Größe? \u2028 next", "query": "SELECT 1"}
TWO = {"db_id": "shop", "question": "How many?", "query": "SELECT 2"}


def written(folder: Path, content: bytes | str, name: str = "questions.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


BOTH = json.dumps([ONE, TWO], ensure_ascii=False)
LINES = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (ONE, TWO))
FORMS = {
    "list": BOTH,
    "mark": codecs.BOM_UTF8 + BOTH.encode(),
    "utf-16": BOTH.encode("utf-16"),
    "utf-32": BOTH.encode("utf-32"),
    "gzip": gzip.compress(BOTH.encode()),
    "lines": LINES,
    "lines, crlf": LINES.replace("\n", "\r\n"),
    "lines, no end": LINES.rstrip() + "\n\n",
    "pretty lines": json.dumps(ONE, indent=1) + "\n" + json.dumps(TWO, indent=1),
    "nested": json.dumps([[ONE], [TWO]]),
    "wrapped": json.dumps({"version": "v1", "data": [ONE, TWO]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_records(tmp_path, form):
    assert [record.value for record in read_records(written(tmp_path, FORMS[form]))] == [ONE, TWO]


def test_records_by_id_keep_it(tmp_path):
    found = read_questions(written(tmp_path, json.dumps({"a7": ONE, "a8": TWO})))
    assert [(one.question_id, one.gold_sql) for one in found] == [("a7", ("SELECT 1",)), ("a8", ("SELECT 2",))]


def test_a_single_record_is_one(tmp_path):
    single = ONE | {"tokens": [{"a": 1}]}
    assert [record.value for record in read_records(written(tmp_path, json.dumps(single)))] == [single]


@pytest.mark.parametrize(("text", "name"), [
    ("question,sql\nHow many?,SELECT 1\n\"a, \"\"b\"\"\",\"SELECT\n2\"\n", "q.csv"),
    ("question;sql\nHow many?;SELECT 1\n\"a, \"\"b\"\"\";\"SELECT\n2\"\n", "q.csv"),
    ("question\tsql\nHow many?\tSELECT 1\n\"a, \"\"b\"\"\"\t\"SELECT\n2\"\n", "q.tsv"),
])  # fmt: skip
def test_tables_have_a_heading(tmp_path, text, name):
    found = [record.value for record in read_records(written(tmp_path, text, name))]
    assert found == [{"question": "How many?", "sql": "SELECT 1"}, {"question": 'a, "b"', "sql": "SELECT\n2"}]


def test_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([ONE, TWO]), path)
    assert [record.value for record in read_records(path)] == [ONE, TWO]


NO_RECORDS = {
    "empty": ("", "it is empty"),
    "comment": ("// own\n[1]", "neither a JSON list nor JSON lines"),
    "trailing comma": ('[{"a": 1},]', "neither a JSON list nor JSON lines"),
    "cut off": (BOTH[:-9], "neither a JSON list nor JSON lines"),
    "deep": ("[" * 100_000, "neither a JSON list nor JSON lines"),
    "latin-1": ('[{"a": "\xe9"}]'.encode("latin-1"), "is not UTF-8 text (line 1)"),
    "gzip, cut off": (gzip.compress(BOTH.encode())[:40], "damaged gzip"),
    "a text": ('"text"', "holds no records"),
}


@pytest.mark.parametrize("name", NO_RECORDS)
def test_what_is_none_of_the_forms_is_refused_in_a_sentence(tmp_path, name):
    content, words = NO_RECORDS[name]
    with pytest.raises(UserError) as refusal:
        read_records(written(tmp_path, content))
    assert words in str(refusal.value) and str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_line_that_is_no_json_is_one_bad_record(tmp_path):
    path = written(tmp_path, LINES + "{oops\n")
    found = find_questions(path, read_records(path))
    assert len(found.questions) == 2
    (bad,) = found.bad
    assert (bad.where, bad.question_id) == ("line 3", "2") and "not JSON" in bad.detail
    with pytest.raises(UserError, match="line 3 is not JSON"):
        read_questions(path)


NAMES = [
    {"db_name": "shop", "question": "q", "sql": "SELECT 1", "instance_id": "x1"},
    {"database": "shop", "utterance": "q", "gold_sql": "SELECT 1", "external_knowledge": "k"},
    {"selected_database": "shop", "query": "q", "sol_sql": ["SELECT 1"]},
    {"db_id": "shop", "sql_prompt": "q", "sql": "SELECT 1", "sql_complexity": "basic"},
]


@pytest.mark.parametrize("record", NAMES)
def test_fields_of_other_names_are_found_and_said(tmp_path, record):
    found = find_questions(tmp_path, read_records(written(tmp_path, json.dumps([record]))))
    (question,) = found.questions
    assert (question.database_id, question.text, question.gold_sql) == ("shop", "q", ("SELECT 1",))
    assert question.evidence == ("k" if "external_knowledge" in record else "")
    assert found.notes[0].startswith("fields: ") and "from" in found.notes[0]


def test_fields_may_be_told(tmp_path):
    records = read_records(written(tmp_path, json.dumps([ONE | {"q": "mine", "other": "SELECT 9"}])))
    (question,) = find_questions(tmp_path, records, given_fields("question=q, sql=other")).questions
    assert (question.text, question.gold_sql) == ("mine", ("SELECT 9",))


@pytest.mark.parametrize("text", ["question", "nonsense=q", "sql=", "sql=a,query=b"])
def test_fields_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="--fields"):
        given_fields(text)


def test_the_usual_names_of_fields_are_names_of_fields_options_too(tmp_path):
    records = read_records(written(tmp_path, json.dumps([{"d": "shop", "q": "mine", "s": "SELECT 9", "hint": "no"}])))
    for told in ("db_id=d,question=q,query=s", "database=d,question=q,SQL=s", "db_id=d,question=q,gold_sql=s"):
        (question,) = find_questions(tmp_path, records, given_fields(f"{told},evidence=q")).questions
        assert (question.database_id, question.text, question.gold_sql) == ("shop", "mine", ("SELECT 9",))
        assert question.evidence == "mine"


def test_each_field_in_use_is_said():
    line = guessed_fields([ONE | {"evidence": "e", "question_id": 1}], {}).line()
    assert line == (
        "fields: question_id from question_id, database from db_id, question from question, sql from query, "
        "evidence from evidence"
    )
    assert guessed_fields([{"x": 1}], {}).line() == ""


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"db_id": "shop", "frage": "q", "query": "SELECT 1"}, "has no question: {as} ({db_id, frage, query)"),
        ({"db_id": "shop", "question": "q", "s": "SELECT 1"}, "{as} in query or SQL ({db_id, question, s)"),
        ({"basis": "shop", "question": "q", "query": "SELECT 1"}, "has no db_id: {as} ({basis, question, query)"),
        ({f"{'x' * 50}{i}": 1 for i in range(13)}, ", ...)"),
        ({}, "(it has no field)"),
    ],
)  # fmt: skip
def test_a_record_without_a_field_is_answered_with_those_that_it_has(tmp_path, record, said):
    (bad,) = find_questions(tmp_path, read_records(written(tmp_path, json.dumps([record])))).bad
    said = said.replace("{as}", "give it as text").replace("{", "its fields are ")
    assert bad.detail.endswith(said) and len(bad.detail) < 700


@pytest.mark.parametrize(
    ("field", "value", "kept", "note"),
    [
        ("question_id", 7.0, "7", "question_id is read as a whole number (1 records)"),
        ("question_id", float("nan"), "0", ""),
        ("evidence", ["a", "b"], "a\nb", "evidence is a list, read line by line (1 records)"),
        ("evidence", float("nan"), "", ""),
        ("evidence", {"a": 1}, "", "evidence is left out: it is no text (1 records)"),
        ("difficulty", 3, "3", "difficulty is a number, read as text (1 records)"),
    ],
)
def test_an_optional_field_never_costs_a_question(tmp_path, field, value, kept, note):
    found = find_questions(tmp_path, read_records(written(tmp_path, json.dumps([ONE | {field: value}]))))
    (question,) = found.questions
    assert getattr(question, field) == kept
    assert list(found.notes[1:]) == ([note] if note else [])


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ("text", "not a JSON object"),
        (ONE | {"question": ""}, "has no question"),
        (ONE | {"query": "null"}, "no gold query"),
        (ONE | {"query": None}, "no gold query"),
        (ONE | {"db_id": "../x"}, "no folder name"),
        (ONE | {"question_id": True}, "question_id"),
        (TWO | {"question_id": "0"}, "question_id '0' of another"),
    ],
)
def test_one_bad_record_leaves_the_others(tmp_path, record, detail):
    found = find_questions(tmp_path, read_records(written(tmp_path, json.dumps([ONE, record]))))
    assert [one.gold_sql for one in found.questions] == [("SELECT 1",)]
    assert detail in found.bad[0].detail and found.bad[0].where == "record 1"


def test_records_without_a_database_are_of_the_given_one(tmp_path):
    records = read_records(written(tmp_path, "question,sql\nHow many?,SELECT 1\n", "q.csv"))
    (question,) = find_questions(tmp_path, records, database_id="sales").questions
    assert question.database_id == "sales"


def test_a_row_with_undoubled_quotes_is_left_out_by_its_name(tmp_path):
    table = 'question,sql\n"a ""b""",SELECT 1\n"Which are "in stock" now?",SELECT 2\nHow many?,SELECT 3\n'
    records = read_records(written(tmp_path, table, "q.csv"))
    assert [one.value["sql"] for one in records if not one.fault] == ["SELECT 1", "SELECT 3"]
    (broken,) = [one for one in records if one.fault]
    assert broken.where == "row 3" and "is not CSV (',' expected after '\"')" in broken.fault


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ('question,sql\nHow?,SELECT 1\n"no "end",SELECT 2\nand, so, on\nWho?,SELECT 3\n', 3),  # its next line is no row
        ('question,sql\nHow?,SELECT 1\n"two\nlines "of" one",SELECT 2\nWho?,SELECT 3\n', 4),
        ('question,sql\nHow?,SELECT 1\n"never closed,SELECT 2\nWho?,SELECT 3\n', 4),
        ('question,sql\n"all "rows"",SELECT 1\n', 2),
        ('"ques"tion,sql\nHow?,SELECT 1\n', 1),
    ],
)
def test_a_table_whose_rows_can_not_be_told_apart_is_refused(tmp_path, table, row):
    with pytest.raises(UserError, match=rf"q\.csv, row {row} is not CSV .*: correct it\."):
        read_records(written(tmp_path, table, "q.csv"))
