"""The search for values that a question names: texts read of a database, texts that count as named, number shown."""

from __future__ import annotations

import sqlite3
from difflib import SequenceMatcher
from pathlib import Path

import bm25s
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.databases import schemas
from floe.actors.databases.contained_databases import ContainedDatabases, find_texts, read_schema
from floe.actors.databases.reading_settings import ReadingSettings
from floe.actors.databases.schemas import ColumnName
from floe.actors.prompting.value_index import (
    COMPLETE_MARK,
    HITS_PER_QUERY,
    STOP_WORDS,
    WORD,
    best_numbers,
    question_words,
    value_index,
)
from floe.actors.prompting.value_matching import MAX_NGRAM_TOKENS, best_named, is_named, search_queries
from floe.configs.errors import UserError
from tests.small_archives import make_database


@pytest.fixture
def places(tmp_path) -> Path:
    """Make a table of awkward cells: repeated, not UTF-8, blobs, numbers, very long or short texts, line breaks."""
    path = make_database(tmp_path / "places" / "places.sqlite", ["CREATE TABLE place (name TEXT, code)"])
    rows = [
        ("New York", 1), ("New York", "NY"), ("Sant\udcffAna", b"\x00\x01"), ("x" * 5000, None), ("Y", 2.5),
        ("", "  "), ("two\nlines", "it's"),
    ]  # fmt: skip
    connection = sqlite3.connect(path)
    for name, code in rows:
        raw = name.encode("utf-8", "surrogateescape")
        connection.execute("INSERT INTO place VALUES (CAST(? AS TEXT), ?)", (raw, code))
    connection.commit()
    connection.close()
    return path


def test_examples_are_distinct_short_literals_on_one_line_and_the_same_each_time(places):
    _, place = read_schema(places, 4)
    name, code = place.columns
    assert name.examples == ("'New York'", "'Sant\ufffdAna'", f"'{'x' * schemas.MAX_EXAMPLE_CHARS}'...", "'Y'")
    assert code.examples == ("1", "'NY'", "2.5", "'it''s'")
    assert read_schema(places, 4)[1] == place
    assert "\n" not in "".join(read_schema(places, 10)[1].columns[0].examples)


def test_the_search_reads_texts_of_sensible_length(places):
    found = [(name.column, value) for name, value in find_texts(places).texts if name.table == "place"]
    assert found == [
        ("name", "New York"), ("name", "Sant\ufffdAna"), ("name", "Y"), ("name", "two\nlines"), ("code", "NY"),
        ("code", "it's"),
    ]  # fmt: skip


def test_a_column_gives_no_more_than_its_cap(places):
    first_two = reading(places, max_texts=2)
    assert [value for name, value in first_two if name == ("place", "name")] == ["New York", "Sant\ufffdAna"]
    of_two_rows = reading(places, max_texts=2, max_text_rows=2)
    assert [value for name, value in of_two_rows if name.table == "place"] == ["New York", "NY"]


def reading(path: Path, **settings) -> tuple[tuple[ColumnName, str], ...]:
    databases = ContainedDatabases(ReadingSettings(**settings))
    try:
        return databases.find_texts(path).texts
    finally:
        databases.close()


def test_reading_leaves_no_file_beside_a_database_with_a_write_ahead_log(places):
    connection = sqlite3.connect(places)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    before = sorted(places.parent.iterdir())
    assert find_texts(places).texts and read_schema(places, 2)
    assert sorted(places.parent.iterdir()) == before


def test_hits_are_capped_and_a_value_in_many_columns_does_not_hide_others(tmp_path):
    columns = [f"home_{number}" for number in range(15)]
    create = f"CREATE TABLE trip ({', '.join(f'{column} TEXT' for column in columns)}, guide TEXT)"
    insert = f"INSERT INTO trip VALUES ({', '.join(['?'] * 15)}, ?)".replace("?", "'Oslo'", 15).replace("?", "'Ms Ek'")
    database = make_database(tmp_path / "trips" / "trips.sqlite", [create, insert])
    index = value_index(database, tmp_path / "indices")
    hits = index.search("Did Ms Ek go to Oslo?", 20)
    assert hits[0] == (("trip", "guide"), "Ms Ek")
    assert len(hits) == 16
    assert index.search("Did Ms Ek go to Oslo?", 5) == hits[:5]


def test_stop_words_alone_find_nothing(tmp_path):
    statements = ["CREATE TABLE state (code TEXT)", "INSERT INTO state VALUES ('IN'), ('OR'), ('TX')"]
    index = value_index(make_database(tmp_path / "states" / "states.sqlite", statements), tmp_path / "indices")
    assert [value for _, value in index.search("How many pets live in TX or so?", 20)] == ["TX"]


def test_a_database_without_texts_has_an_index_that_finds_nothing(tmp_path):
    path = tmp_path / "empty" / "empty.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE number (n INTEGER)")
    connection.close()
    assert value_index(path, tmp_path / "indices").search("Which numbers?", 20) == []


def test_an_index_that_was_broken_off_is_not_taken(places, tmp_path):
    home = tmp_path / "indices"
    hits = value_index(places, home).search("Who lives in New York?", 20)
    (folder,) = home.iterdir()
    (folder / COMPLETE_MARK).unlink()
    (folder / "corpus.jsonl").write_text("")
    assert hits and value_index(places, home).search("Who lives in New York?", 20) == hits


def test_two_processes_may_make_the_same_index(places, tmp_path, monkeypatch):
    home = tmp_path / "indices"
    make_words = bm25s.tokenize

    def and_the_other_is_first(*arguments, **options):
        monkeypatch.setattr(bm25s, "tokenize", make_words)
        value_index(places, home)
        return make_words(*arguments, **options)

    monkeypatch.setattr(bm25s, "tokenize", and_the_other_is_first)
    assert value_index(places, home).search("Who lives in New York?", 20)
    assert len(list(home.iterdir())) == 1


def test_a_home_that_can_not_be_written_is_named(places, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Can't write the value index .*run\.home"):
        value_index(places, tmp_path / "file")


@given(value=st.text("abAB ", min_size=1, max_size=30), text=st.text("abAB ", max_size=60))
def test_the_filter_is_the_longest_common_substring(value, text):
    wanted, given_text = value.strip().lower(), text.lower()
    matcher = SequenceMatcher(None, wanted, given_text, autojunk=False)
    longest = matcher.find_longest_match(0, len(wanted), 0, len(given_text)).size
    assert is_named(value, text) == (100 * longest > 85 * len(wanted))


def test_values_named_in_full_come_first_then_the_longer_ones():
    values = ["Yor", "New York", "New Yorks", "xyz"]
    assert best_named(values, "the new york area") == ["New York", "Yor", "New Yorks"]


@given(st.lists(st.integers(0, 30), max_size=40))
def test_queries_are_the_distinct_ngrams_and_the_whole(tokens):
    queries = search_queries(tokens)
    assert len(queries) == len(set(queries))
    expected = {
        tuple(sorted(tokens[start:end]))
        for start in range(len(tokens))
        for end in range(start + 1, min(start + MAX_NGRAM_TOKENS, len(tokens)) + 1)
    }
    assert set(queries) == (expected | {tuple(sorted(tokens))} if tokens else set())


def test_the_search_finds_what_the_librarys_own_finds():
    """Compare on one with many equal scores, and on queries with a word twice and with one that no value has."""
    values = [f"{first} {second}" for first in ("york", "hull", "bath", "ely") for second in ("port", "gate", "hull")]
    words = bm25s.tokenize([*values, "york york port", "gate"], stopwords=None, show_progress=False)
    bm25 = bm25s.BM25()
    bm25.index(words, show_progress=False)
    ids = bm25.get_tokens_ids(["york", "hull", "port", "hull", "gate", "nowhere"])
    queries = search_queries(ids)
    assert len(queries) > 10
    expected: set[int] = set()
    for query in queries:
        scores = bm25.get_scores(list(query))
        ranked = sorted((number for number in range(len(scores)) if scores[number] > 0), key=lambda n: -scores[n])
        expected.update(ranked[:HITS_PER_QUERY])
    assert best_numbers(bm25, queries) == expected
    assert best_numbers(bm25, []) == set()


@given(st.lists(st.sampled_from(["The", "of", "IT", "York", "it's", "x_1"]) | st.text(max_size=5)).map(" ".join))
def test_a_questions_words_are_those_of_the_librarys_tokenizer(text):
    found = bm25s.tokenize(text, token_pattern=WORD, stopwords=STOP_WORDS, return_ids=False, show_progress=False)
    assert question_words(text) == (list(found[0]) if found else [])
