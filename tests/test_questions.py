"""Reading Spider- and BIRD-layout questions, and refusing other records in one sentence."""

import json

import pytest

from floe.actors.questions.questions import json_lines, read_questions
from floe.configs.errors import UserError

SPIDER = {"db_id": "shop", "question": "How many?", "query": "SELECT 1"}
BIRD = {"question_id": 1471, "db_id": "bank", "question": "Who?", "evidence": "a hint", "SQL": "SELECT 2"}


def written(tmp_path, content) -> object:
    path = tmp_path / "questions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_questions(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_both_layouts(tmp_path):
    spider, bird = read_questions(written(tmp_path, [SPIDER, BIRD]))
    assert (spider.question_id, spider.database_id, spider.text) == ("0", "shop", "How many?")
    assert (spider.gold_sql, spider.evidence) == (("SELECT 1",), "")
    assert (bird.question_id, bird.gold_sql, bird.evidence) == ("1471", ("SELECT 2",), "a hint")


def test_json_lines_and_blank_lines_and_a_byte_order_mark(tmp_path):
    content = "\ufeff" + json.dumps(SPIDER) + "\n\n  \n" + json.dumps(BIRD, ensure_ascii=False) + "\n"
    assert [one.question_id for one in read_questions(written(tmp_path, content))] == ["0", "1471"]


def test_line_separators_of_unicode_do_not_split_a_line():
    assert list(json_lines('{"a": "x\u2028y"}\n\n1')) == [(1, {"a": "x\u2028y"}), (3, 1)]


def test_several_accepted_answers(tmp_path):
    question = read_questions(written(tmp_path, [SPIDER | {"query": ["SELECT 1", "SELECT 2"]}]))[0]
    assert question.gold_sql == ("SELECT 1", "SELECT 2")


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ("text", "record 1 is not a JSON object"),
        ({"question": "q", "query": "s"}, "record 1 has no db_id"),
        (SPIDER | {"db_id": "../etc"}, "no folder name"),
        (SPIDER | {"db_id": ".."}, "no folder name"),
        (SPIDER | {"question": " "}, "has no question"),
        (SPIDER | {"query": None}, "no gold query"),
        (SPIDER | {"query": []}, "no gold query"),
        (SPIDER | {"query": ["SELECT 1", 2]}, "no gold query"),
        (SPIDER | {"SQL": "SELECT 2"}, "they differ"),
        (SPIDER | {"question_id": 1.5}, "question_id"),
        (SPIDER | {"question_id": True}, "question_id"),
        (SPIDER | {"question_id": "0", "query": "SELECT 2"}, "record 1 has the question_id '0' of another"),
    ],
)
def test_a_bad_record_is_named(tmp_path, record, part):
    assert part in refusal(written(tmp_path, [SPIDER, record]))


def test_a_record_that_is_there_twice_counts_once(tmp_path):
    assert [one.question_id for one in read_questions(written(tmp_path, [BIRD, SPIDER, BIRD]))] == ["1471", "1"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "it is empty"),
        ("[]", "holds no question"),
        ("[1, 2", "neither a JSON list nor JSON lines"),
        (json.dumps(SPIDER) + "\n{oops\n", "line 2 is not JSON"),
        ("[" * 100_000, "neither a JSON list nor JSON lines"),
        ("3", "holds no records"),
    ],
)
def test_an_unusable_file(tmp_path, content, part):
    assert part in refusal(written(tmp_path, content))


def test_a_missing_file_a_folder_and_no_text(tmp_path):
    assert "There is no questions file" in refusal(tmp_path / "none.json")
    assert "is a folder" in refusal(tmp_path)
    path = tmp_path / "latin.json"
    path.write_bytes(b'[{"question": "\xe9"}]')
    assert "not UTF-8" in refusal(path)
