"""Schema items and n-grams of queries, by hand; what can't be parsed; real golds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.reward_service.reading.schema_reader import read_schema
from floe.reward_service.sql_text.sql_similarity import (
    MAX_CHARS,
    MAX_DEPTH,
    UNKNOWN_TABLE,
    KnownSchema,
    jaccard,
    query_parts,
)

SCHEMA = KnownSchema.of(
    {
        "Singer": {"Id": "INTEGER", "Name": "TEXT", "Age": "whatever", "Born": ""},
        "song": {"title": "TEXT", "singer_id": "INTEGER", "age": "INTEGER"},
    }
)
ALL_OF_SINGER = {"singer", "singer.id", "singer.name", "singer.age", "singer.born"}


def items(sql: str) -> set[str]:
    parts = query_parts(sql, SCHEMA)
    assert parts is not None
    return set(parts.schema_items)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) FROM SINGER", {"singer"}),
        ("SELECT NAME FROM Singer ORDER BY born", {"singer", "singer.name", "singer.born"}),
        ('SELECT "name" FROM singer WHERE name = "Ann Lee"', {"singer", "singer.name"}),
        ("SELECT * FROM singer AS s", ALL_OF_SINGER),
        ("SELECT s.*, t.title FROM singer s, song t", {*ALL_OF_SINGER, "song", "song.title"}),
        (
            "SELECT T1.name, count(*) AS n FROM singer T1 JOIN song T2 ON T1.id = T2.singer_id GROUP BY 1 ORDER BY n",
            {"singer", "singer.name", "singer.id", "song", "song.singer_id"},
        ),
        (
            "WITH c AS (SELECT name AS who, born FROM singer) SELECT who FROM c WHERE c.born > 3",
            {"singer", "singer.name", "singer.born"},
        ),
        (
            "SELECT name FROM singer WHERE EXISTS (SELECT 1 FROM song WHERE singer_id = id)",
            {"singer", "singer.name", "singer.id", "song", "song.singer_id"},
        ),
        ("SELECT x.name FROM (SELECT name FROM singer) x", {"singer", "singer.name"}),
        ("SELECT name FROM singer GROUP BY name HAVING avg(born) > 3", {"singer", "singer.name", "singer.born"}),
        ("SELECT name FROM singer UNION SELECT title FROM song", {"singer", "singer.name", "song", "song.title"}),
        ("SELECT nam FROM singer", {"singer", f"{UNKNOWN_TABLE}.nam"}),
        ("SELECT age FROM singer JOIN song", {"singer", "song", f"{UNKNOWN_TABLE}.age"}),  # of either
        ("SELECT t.nam FROM songs t", {"songs", "songs.nam"}),
    ],
)
def test_schema_items(sql: str, expected: set[str]) -> None:
    assert items(sql) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT T1.name FROM singer AS T1 ORDER BY T1.age", "select  NAME as who from Singer order by age -- all"),
        ("SELECT name FROM singer GROUP BY 1 ORDER BY 1", "SELECT s.name AS n FROM singer s GROUP BY name ORDER BY n"),
        ("SELECT x.name FROM (SELECT name FROM singer) x", "SELECT name FROM (SELECT name FROM singer)"),
    ],
)
def test_spellings_of_one_query_are_the_same(one: str, other: str) -> None:
    first, second = query_parts(one, SCHEMA), query_parts(other, SCHEMA)
    assert first is not None and first == second


def test_ngrams_by_hand() -> None:
    one = query_parts("SELECT name FROM singer", SCHEMA)
    other = query_parts("SELECT born FROM singer", SCHEMA)
    assert one is not None and other is not None
    assert one.ngrams == {("SELECT", "singer.name"), ("singer.name", "FROM"), ("FROM", "singer")}
    assert jaccard(one.ngrams, other.ngrams) == 1 / 5
    assert jaccard(one.schema_items, other.schema_items) == 1 / 3
    assert jaccard(set(), set()) == 1.0 and jaccard({1}, set()) == 0.0


def nested(times: int, shape: str, core: str) -> str:
    for _ in range(times):
        core = shape.replace("#", core)
    return core


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELEC name FROM singer",
        "SELECT 1; SELECT 2",
        "DELETE FROM singer",
        "VALUES (1)",
        "SELECT [" * 900,
        "SELECT " + "NOT " * 1200 + "1",
        "SELECT " + "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1),
        "SELECT '" + "x" * MAX_CHARS + "'",
        "SELECT t0.age FROM song t0" + "".join(f" JOIN song t{n} USING (age)" for n in range(1, 100)),
    ],
)
def test_what_cannot_be_looked_at_has_no_parts(sql: str) -> None:
    assert query_parts(sql, SCHEMA) is None


@pytest.mark.parametrize(
    "sql",
    [
        nested(29, "SELECT *, * FROM (#)", "SELECT * FROM singer"),
        nested(29, "SELECT name FROM singer WHERE name IN (#)", "SELECT name FROM singer"),
        nested(14, "SELECT (#) + 1 FROM song GROUP BY 1", "SELECT age FROM song"),
        "SELECT 1 AS x0" + "".join(f", x{n} + x{n} AS x{n + 1}" for n in range(150)) + " FROM song ORDER BY x150",
        "WITH c0 AS (SELECT * FROM song)"
        + "".join(f", c{n} AS (SELECT * FROM c{n - 1})" for n in range(1, 60))
        + " SELECT * FROM c59",
    ],
)
def test_queries_that_could_grow_without_bound_do_not(sql: str) -> None:
    parts = query_parts(sql, SCHEMA)
    assert parts is not None and len(parts.ngrams) < MAX_CHARS


TEXT_OF_WORDS = (
    "SELECT FROM WHERE GROUP BY HAVING ORDER LIMIT JOIN ON USING WITH AS UNION CASE WHEN END IN NOT singer song name "
    "age s t . , ( ) * = < 1 'x' \" [ ] ; -- \0 ² {{ }} @ : ? || CAST NULL"
)
WORDS = st.sampled_from(TEXT_OF_WORDS.split(" "))


@given(st.one_of(st.lists(WORDS, max_size=30).map(" ".join), st.text(max_size=60)))
def test_no_text_is_too_odd(text: str) -> None:
    parts = query_parts(text, SCHEMA)
    assert parts is None or all(parts.ngrams)


@pytest.mark.parametrize(("folder", "key", "num_at_least"), [("spider", "query", 400), ("bird", "SQL", 247)])
def test_every_name_of_a_gold_is_found_in_its_schema(
    shared_data: Path, folder: str, key: str, num_at_least: int
) -> None:
    schemas: dict[str, KnownSchema] = {}
    num_seen = 0
    for question in json.loads((shared_data / folder / "dev.json").read_text())[
        : 1500 : 2 if folder == "spider" else 1
    ]:
        path = shared_data / folder / "databases" / question["db_id"] / f"{question['db_id']}.sqlite"
        if not path.is_file():
            continue
        schema = schemas.setdefault(question["db_id"], KnownSchema.of(read_schema(path)))
        parts = query_parts(question[key], schema)
        num_seen += 1
        known = {f"{table}.{column}" for table, columns in schema.columns.items() for column in columns}
        assert parts is not None, question[key]
        assert parts.schema_items <= known | set(schema.columns), question[key]
    assert num_seen >= num_at_least
