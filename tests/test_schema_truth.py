"""Schemas in prompts agree with SQLite's own description, and are SQL that SQLite accepts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.actors.databases.contained_databases import find_schema
from floe.actors.databases.ddl_comments import column_comments
from floe.actors.databases.schemas import Column, TableSchema, example, shown_name, shown_type
from floe.actors.prompting import prompts
from floe.actors.prompting.prompts import created_tables
from floe.configs.errors import UserError

# SQLite's own list (https://sqlite.org/lang_keywords.html), and the names of a table's row numbers.
KEYWORDS = """
abort action add after all alter always analyze and as asc attach autoincrement before begin between by
cascade case cast check collate column commit conflict constraint create cross current current_date
current_time current_timestamp database default deferrable deferred delete desc detach distinct do drop each
else end escape except exclude exclusive exists explain fail filter first following for foreign from full
generated glob group groups having if ignore immediate in index indexed initially inner insert instead
intersect into is isnull join key last left like limit match materialized natural no not nothing notnull null
nulls of offset on or order others outer over partition plan pragma preceding primary query raise range
recursive references regexp reindex release rename replace restrict returning right rollback row rows
savepoint select set table temp temporary then ties to transaction trigger unbounded union unique update using
vacuum values view virtual when where window with without true false rowid oid _rowid_ stored strict
""".split()  # noqa: SIM905
NAMES = st.text(min_size=1).filter(lambda name: "\0" not in name and name.encode(errors="ignore").decode() == name)


def database(folder: Path, script: str) -> Path:
    path = folder / "zoo" / "zoo.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def shown(folder: Path, script: str, num_examples: int = 0, style="arctic") -> str:
    return prompts.STYLES[style].schema(find_schema(database(folder, script), num_examples).tables)


def assert_valid(name: str) -> None:
    """The name as it is shown is a table and a column of SQLite's, which hold what was put there."""
    with closing(sqlite3.connect(":memory:")) as connection:
        quoted = '"' + name.replace('"', '""') + '"'
        connection.execute(f"CREATE TABLE {quoted} ({quoted} TEXT)")
        connection.execute(f"INSERT INTO {quoted} VALUES ('v')")
        one = shown_name(name)
        for sql in (f"SELECT {one} FROM {one}", f"SELECT t.{one} FROM {one} AS t WHERE {one} = 'v' ORDER BY {one}"):
            assert connection.execute(sql).fetchall() == [("v",)]


@pytest.mark.parametrize("name", [*KEYWORDS, *(word.upper() for word in KEYWORDS[::9])])
def test_a_keyword_is_shown_as_sqlite_takes_it(name):
    assert_valid(name)


@given(name=NAMES)
def test_any_name_is_shown_as_sqlite_takes_it(name):
    if name.casefold().startswith("sqlite_"):  # SQLite's own
        return
    assert_valid(name)


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique_by=str.upper), declared=st.text(alphabet="aA1 _(),.[]\"'-"))
def test_the_text_of_a_table_is_sql_with_its_names(names, declared):
    with closing(sqlite3.connect(":memory:")) as connection:
        columns = tuple(Column(name=name, type=declared, description="a - b") for name in names)
        table = TableSchema(name=names[0], columns=columns, primary_key=(names[0],), foreign_keys=())
        if names[0].casefold().startswith("sqlite_") or len({name.casefold() for name in names}) < len(names):
            return
        connection.execute(created_tables([table]))
        found = connection.execute("SELECT name FROM pragma_table_xinfo(?)", (names[0],)).fetchall()
        assert [name for (name,) in found] == names


DECLARED = [
    "STRING", "enum", "DOUBLE PRECISION", "VARCHAR(255)", "TIMESTAMP WITH TIME ZONE", "DECIMAL(10,2)", "UUID",
            "INT UNSIGNED", "GEOMETRY", "serial", "interval", "YEAR", "MONEY", "INTEGER[]", "VARCHAR(10,2)", "",
]  # fmt: skip


def test_types_are_shown_as_they_were_declared(tmp_path):
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(DECLARED))
    text = shown(tmp_path, f'CREATE TABLE t ({columns}, odd "weird; type", twice INT GENERATED ALWAYS AS (c7) STORED);')
    for number, kind in enumerate(DECLARED):
        assert f"    {f'c{number} {kind}'.rstrip()}," in text
    assert '    odd "weird; type",' in text
    assert "    twice INT\n);" in text


def test_a_type_that_is_no_plain_text_stays_one_name():
    assert shown_type("a\n b") == "a b"
    assert shown_type('x); DROP "y') == '"x); DROP ""y"'


def test_views_are_shown_with_their_columns_and_a_broken_one_is_left_out(tmp_path):
    script = "CREATE TABLE pet (name TEXT, age INT); CREATE VIEW old AS SELECT name, age * 2 AS doubled FROM pet;"
    found = find_schema(database(tmp_path, f"{script} CREATE VIEW lost AS SELECT * FROM gone;"), 2)
    assert [(table.name, table.is_view) for table in found.tables] == [("pet", False), ("old", True)]
    assert created_tables(found.tables[1:]) == "CREATE VIEW old (\n    name TEXT,\n    doubled\n);"
    (sentence,) = found.left_out
    assert "table 'lost'" in sentence and "gone" in sentence


def test_tables_that_virtual_tables_keep_for_themselves_are_not_shown(tmp_path):
    script = """CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT);
    CREATE VIRTUAL TABLE note_fts USING fts5(title, content='note', content_rowid='id');
    CREATE VIRTUAL TABLE plain USING fts4(text); CREATE VIRTUAL TABLE box USING rtree(id, x0, x1);"""
    text = shown(tmp_path, script, style="compact")
    assert text.split("\n") == ["box(id, x0, x1)", "note(id, title)", "note_fts(title)", "plain(text)"]


def test_a_virtual_table_of_an_absent_module_takes_its_own_tables_along_alone(tmp_path):
    path = database(tmp_path, "CREATE TABLE pet (name TEXT); CREATE TABLE emb_rows (id); CREATE TABLE remb (id);")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        sql = "CREATE VIRTUAL TABLE emb USING vec0(embedding float[4])"
        connection.execute("INSERT INTO sqlite_master VALUES ('table', 'emb', 'emb', 0, ?)", (sql,))
        connection.commit()
    found = find_schema(path, 2)
    assert [table.name for table in found.tables] == ["pet", "remb"]
    assert "table 'emb'" in found.left_out[0] and "vec0" in found.left_out[0]


def test_keys_are_shown_between_columns_that_are_there(tmp_path):
    script = """CREATE TABLE users (id INTEGER PRIMARY KEY, boss INTEGER REFERENCES users (id));
    CREATE TABLE posts (user_id INTEGER REFERENCES users, gone INTEGER REFERENCES lost (id), also REFERENCES lost);
    CREATE TABLE a (x INTEGER, y INTEGER, PRIMARY KEY (x, y));
    CREATE TABLE c (ax INTEGER, ay INTEGER, FOREIGN KEY (ax, ay) REFERENCES a, FOREIGN KEY (ax) REFERENCES a (z));
    CREATE TABLE "Order Line" ("user id" INTEGER REFERENCES "USERS" ("ID"));
    CREATE TABLE twice (u INTEGER REFERENCES users (id), CONSTRAINT k FOREIGN KEY (u) REFERENCES users (id));"""
    lines = [line.strip().rstrip(",") for line in shown(tmp_path, script).split("\n") if "FOREIGN KEY" in line]
    assert lines == [
        "FOREIGN KEY (`user id`) REFERENCES users (id)",
        "FOREIGN KEY (ax, ay) REFERENCES a (x, y)",
        "FOREIGN KEY (user_id) REFERENCES users (id)",
        "FOREIGN KEY (u) REFERENCES users (id)",
        "FOREIGN KEY (boss) REFERENCES users (id)",
    ]


def test_comments_of_the_ddl_are_shown_behind_their_columns(tmp_path):
    script = "CREATE TABLE t (\n a INTEGER, -- the year of building\n b TEXT /* status: O open, C closed */\n);"
    assert shown(tmp_path, script) == (
        "CREATE TABLE t (\n    a INTEGER, -- the year of building\n    b TEXT -- status: O open, C closed\n);"
    )


@pytest.mark.parametrize(
    ("ddl", "comments"),
    [
        ("CREATE TABLE t ( -- the table\n a INT -- of a\n, b INT -- of b\n)", {"a": "of a", "b": "of b"}),
        (
            "CREATE TABLE t (\n -- before a,\n -- in two lines\n a INT, -- behind\n b)",
            {"a": "before a,; in two lines; behind"},
        ),
        ("CREATE TABLE t (/* key */ id INT, /* next */ b TEXT)", {"id": "key", "b": "next"}),
        ("CREATE TABLE t (a TEXT DEFAULT '-- no', \"b,(c\" NUMERIC(3, /* in */ 1) -- bc\n)", {"b,(c": "in; bc"}),
        ("CREATE TABLE t (a INT, -- of a\n PRIMARY KEY (a) -- of nobody\n)", {"a": "of a"}),
        ("CREATE TABLE t (a INT -- never ended", {"a": "never ended"}),
        ("CREATE TABLE t (a INT /* never ended", {"a": "never ended"}),
        ("", {}),
    ],
)
def test_whose_comment_it_is(ddl, comments):
    assert column_comments(ddl) == comments


@given(ddl=st.text(alphabet="ab(),-/* \n'\"`[]", max_size=60))
def test_no_text_is_too_odd_for_comments(ddl):
    assert all(said and "\n" not in said for said in column_comments(f"CREATE TABLE t ({ddl}").values())


def test_a_long_example_says_that_it_is_cut(tmp_path):
    script = f"CREATE TABLE film (title TEXT); INSERT INTO film VALUES ('{'x' * 50}'), ('{'y' * 40}');"
    assert f"-- example: ['{'x' * 40}'..., '{'y' * 40}']" in shown(tmp_path, script, num_examples=2)
    assert (
        example(12345678901234567890123456789012345678901234567890)
        == "12345678901234567890123456789012345678901234567890"
    )


@pytest.mark.parametrize(("script", "words"), [("PRAGMA user_version=1;", "has no table"), (
    "CREATE VIEW v AS SELECT * FROM gone;", "has no table to ask about (table 'v'")])  # fmt: skip
def test_a_database_without_tables_is_refused(tmp_path, script, words):
    with pytest.raises(UserError) as refusal:
        find_schema(database(tmp_path, script), 0)
    assert words in str(refusal.value) and "zoo.sqlite" in str(refusal.value)


def test_a_view_alone_is_enough(tmp_path):
    assert shown(tmp_path, "CREATE VIEW numbers AS SELECT 1 AS n;", style="compact") == "numbers(n)"


def test_compact_names_are_sql_too(tmp_path):
    text = shown(
        tmp_path, 'CREATE TABLE "Charter School" ("School, Name" TEXT, "order" INT, plain INT);', style="compact"
    )
    assert text == "`Charter School`(`School, Name`, `order`, plain)"


def test_of_a_column_with_few_values_that_come_again_all_are_shown(tmp_path):
    rows = ", ".join(f"('{kind}', {number}, {number % 2})" for number, kind in enumerate(["cat", "dog", "owl"] * 3))
    script = f"CREATE TABLE pet (kind TEXT, number INTEGER, is_old INTEGER); INSERT INTO pet VALUES {rows}"
    text = shown(tmp_path, script, num_examples=1)
    assert "kind TEXT, -- example: ['cat', 'dog', 'owl']" in text
    assert "number INTEGER, -- example: [0]" in text and "is_old INTEGER -- example: [0, 1]" in text


def test_of_a_small_table_a_column_with_few_values_shows_as_many_as_are_asked_for(tmp_path):
    script = "CREATE TABLE pet (kind TEXT); INSERT INTO pet VALUES ('cat'), ('dog'), ('owl'), ('cat')"
    assert "kind TEXT -- example: ['cat', 'dog']" in shown(tmp_path, script, num_examples=2)
