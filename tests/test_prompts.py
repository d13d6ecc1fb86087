"""The text that the model is asked: the words themselves, what is retrieved, what goes when there is no room."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.actors.databases.contained_databases import find_schema, read_schema
from floe.actors.databases.schemas import Column, ColumnName, ForeignKey, TableSchema
from floe.actors.prompting import prompts
from floe.actors.prompting.column_ranking import ranked_columns
from floe.actors.prompting.descriptions import described, read_descriptions
from floe.actors.prompting.prompt_fitting import ColumnOrder, fitted_prompt
from floe.actors.prompting.trimming import Trimming, column_names, trimmed, with_columns, with_keys, with_matches
from floe.actors.prompting.value_index import value_index
from floe.actors.prompting.value_matching import best_named, is_named
from floe.actors.questions.gold_columns import gold_columns
from floe.actors.questions.question_sets import load_question_sets
from floe.configs.errors import ConfigError
from floe.configs.files.loading import load_config
from floe.configs.plugins.kinds import PROMPT_STYLES
from floe.configs.schema import DataSection
from floe.reward_service.designs.sql_r1 import length_term
from floe.reward_service.sql_text.extraction import extract_sql
from tests.score_requests import make_database

TABLES = (
    TableSchema(
        name="singer",
        columns=(
            Column(name="id", type="INTEGER"),
            Column(name="Home Town", type="TEXT", examples=("'Rome'", "'Oslo'"), description="where they were born"),
            Column(name="age", type="INTEGER", description="age", value_description="in years"),
        ),
        primary_key=("id",),
        foreign_keys=(),
    ),
    TableSchema(
        name="song",
        columns=(Column(name="singer_id", type="INTEGER"), Column(name="title", type="TEXT", matches=("'Halo'",))),
        primary_key=(),
        foreign_keys=(ForeignKey(columns=("singer_id",), table="singer", referred_columns=("id",)),),
    ),
)

CREATED = """CREATE TABLE singer (
    id INTEGER,
    `Home Town` TEXT, -- where they were born, example: ['Rome', 'Oslo']
    age INTEGER, -- in years
    PRIMARY KEY (id)
);

CREATE TABLE song (
    singer_id INTEGER,
    title TEXT, -- example: ['Halo']
    FOREIGN KEY (singer_id) REFERENCES singer (id)
);"""

WHOLE = TableSchema(
    name="order",
    columns=(
        Column(name="id", type="INTEGER"),
        Column(
            name="state", type="TEXT", examples=("'new'",), matches=("'paid'",), description="where it stands",
            value_description="paid: money came",
        ),
        Column(name="2nd note", type=""),
    ),
    primary_key=("id", "state"),
    foreign_keys=(),
)  # fmt: skip

FULL = """CREATE TABLE `order` (
    id INTEGER,
    state TEXT, -- where it stands; paid: money came, example: ['paid', 'new']
    `2nd note`,
    PRIMARY KEY (id, state)
);"""

BARE = """CREATE TABLE `order` (
    id INTEGER,
    state TEXT,
    `2nd note`,
    PRIMARY KEY (id, state)
);"""

ARCTIC = """Database engine:
SQLite

Database schema:
{schema}

The schema lists the tables, their columns with comments and example values, and the primary and foreign keys.

Question:
old is over 60
Who is old?

Instructions:
- Return only the information that the question asks for.
- Return all of the information that the question asks for.
- Think through the steps of writing the query before you write it.

Output format:
<think>
your reasoning
</think>
<answer>
a short summary and the query:
```sql
the query
```
</answer>"""


def test_the_styles_are_those_that_the_configuration_takes():
    assert tuple(prompts.STYLES) == PROMPT_STYLES.built_in
    with pytest.raises(ConfigError, match=r"'compact', 'tagged', 'arctic' or package\.module:Name"):
        load_config(None, ["prompt.style=terse"])


def test_braces_of_schema_question_and_query_stay():
    for style in prompts.STYLES:
        user = prompts.STYLES[style].messages("Which {schema}?", "{0}", "t(`{question}`)")[1]["content"]
        assert "Which {schema}?" in user and "{0}\n" in user and "t(`{question}`)" in user
        assert "SELECT '{reads}'" in prompts.STYLES[style].answer("SELECT '{reads}'")


def test_the_compact_prompt_is_word_for_word_what_it_was():
    text = prompts.named_tables(TABLES)
    assert text == "singer(id, `Home Town`, age)\nsong(singer_id, title)"
    system, user = prompts.STYLES["compact"].messages("Who is old?", "", text)
    assert system == {"role": "system", "content": "You write one SQLite query that answers the question."}
    assert user == {"role": "user", "content": f"{text}\nWho is old?"}
    assert (
        prompts.STYLES["compact"]
        .messages("Who is old?", "old is over 60", text)[1]["content"]
        .endswith("\nold is over 60\nWho is old?")
    )


def test_the_quickstarts_prompts_are_byte_for_byte_those_of_its_figures(home):
    sets = load_question_sets(DataSection(), home / "demo")
    schema_of = lru_cache(lambda name: read_schema(sets.databases_dir / name / f"{name}.sqlite", 0))
    chats = hashlib.sha256()
    for question in (*sets.train, *sets.tune, *sets.test):
        text = prompts.named_tables(schema_of(question.database_id))
        chats.update(json.dumps(prompts.STYLES["compact"].messages(question.text, question.evidence, text)).encode())
    assert chats.hexdigest() == "3b69f5190c480f1c044b06c2a9afbc133b041a5c67edb736124f1e865b6a3009"


def test_with_every_part_off_a_column_is_its_name_and_type():
    bare = [replace(column, examples=(), matches=(), description="", value_description="") for column in WHOLE.columns]
    assert prompts.created_tables([replace(WHOLE, columns=tuple(bare))]) == BARE
    assert prompts.created_tables([WHOLE]) == FULL


def test_of_a_columns_values_those_named_come_first_and_six_are_shown():
    column = Column(name="x", type="", matches=("'a'", "'b'"), examples=("'b'", "'c'", "'d'", "'e'", "'f'", "'g'"))
    table = TableSchema(name="t", columns=(column,), primary_key=(), foreign_keys=())
    assert "example: ['a', 'b', 'c', 'd', 'e', 'f']" in prompts.created_tables([table])


def test_a_comment_that_repeats_the_columns_name_is_left_out():
    for description in ("first name", "First_Name", "FIRSTNAME"):
        for name in ("first_name", "FirstName", "first name"):
            column = Column(name=name, type="TEXT", description=description)
            table = TableSchema(name="t", columns=(column,), primary_key=(), foreign_keys=())
            repeats = name.lower() in (description.lower(), description.lower().replace(" ", "_"),
                                       description.lower().replace(" ", ""))  # fmt: skip
            assert ("--" in prompts.created_tables([table])) != repeats


def test_the_methods_prompt_has_schema_comments_values_and_evidence_before_the_question():
    text = prompts.created_tables(TABLES)
    assert text == CREATED
    system, user = prompts.STYLES["arctic"].messages("Who is old?", "old is over 60", text)
    assert user["content"] == ARCTIC.format(schema=CREATED)
    assert "data science expert" in system["content"]


def test_the_prefill_is_glued_back_before_extraction():
    answer = prompts.STYLES["arctic"].answer("SELECT 1")
    assert extract_sql(prompts.STYLES["arctic"].prefill + answer) == "SELECT 1"
    tagged = prompts.STYLES["tagged"].answer("SELECT 1", "singer: name")
    assert length_term(prompts.STYLES["tagged"].prefill + tagged) is not None  # well formed for every reward design
    assert extract_sql(prompts.STYLES["tagged"].prefill + tagged) == "SELECT 1"
    assert prompts.STYLES["compact"].prefill == ""
    # Reasoning that was cut off holds no answer, which shows only with the tag in front.
    unfinished = "Perhaps SELECT 2 does it"
    assert extract_sql(unfinished) and extract_sql(prompts.STYLES["arctic"].prefill + unfinished) is None


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "zoo" / "zoo.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, kind TEXT);"
        "INSERT INTO pet VALUES (1, 'Sir Barks', 'dog'), (2, 'Whiskers', 'cat'), (3, CAST(x'416dff' AS TEXT), x'00ff');"
    )
    connection.commit()
    connection.close()
    return path


def test_values_that_the_question_names_are_found_in_their_columns(database, tmp_path):
    index = value_index(database, tmp_path / "indices")
    hits = index.search("How old is sir barks, the dog?", 20)
    assert set(hits) == {(ColumnName("pet", "name"), "Sir Barks"), (ColumnName("pet", "kind"), "dog")}
    assert hits[0][1] == "Sir Barks"  # the longer one
    assert len(index.search("sir barks dog whiskers cat", 1)) == 1
    assert index.search("How old is everybody?", 20) == []
    shown = prompts.created_tables(with_matches(read_schema(database, 0), hits))
    assert "example: ['Sir Barks']" in shown and "example: ['dog']" in shown


def test_an_index_is_made_once_and_anew_for_a_changed_database(database, tmp_path):
    home = tmp_path / "indices"
    value_index(database, home)
    (first,) = home.iterdir()
    value_index(database, home)
    assert [path.name for path in home.iterdir()] == [first.name]
    connection = sqlite3.connect(database)
    connection.execute("INSERT INTO pet VALUES (4, 'Polly', 'parrot')")
    connection.commit()
    connection.close()
    assert value_index(database, home).search("Where is Polly?", 5) == [(ColumnName("pet", "name"), "Polly")]
    assert first.name not in [path.name for path in home.iterdir()]


@pytest.mark.parametrize(
    ("value", "text", "named"),
    [
        ("California", "rivers of california", True),
        ("Californian", "rivers of california", True),  # 10 of 11 characters
        ("California dreams", "rivers of california", False),
        ("ca", "rivers of california", True),
        ("new york", "york is new", False),
    ],
)
def test_a_value_is_named_when_most_of_it_stands_in_the_text(value, text, named):
    assert is_named(value, text) == named
    assert best_named([value], text) == [value] * named


def test_a_table_that_cannot_be_read_is_left_out_and_named(tmp_path):
    script = "CREATE TABLE pet (name TEXT); INSERT INTO pet VALUES ('rex'); PRAGMA writable_schema=ON; "
    script += "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES "
    script += "('table', 'shapes', 'shapes', 0, 'CREATE VIRTUAL TABLE shapes USING module_nobody_has(x)')"
    found = find_schema(make_database(tmp_path, "pets", script=script), 2)
    assert [table.name for table in found.tables] == ["pet"]
    (sentence,) = found.left_out
    assert "table 'shapes' of" in sentence and "no such module" in sentence


def write_description(database, rows: bytes, name: str = "PET .csv"):
    folder = database.parent / "database_description"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(rows)


HEADING = b"original_column_name,column_name,column_description,data_format,value_description\n"


def test_descriptions_are_matched_in_any_case_and_in_the_encodings_that_there_are(database):
    tables = read_schema(database, 0)
    rows = HEADING + 'Name,,the pet\u2019s name,text,"commonsense evidence: first \n second"\n'.encode("cp1252")
    write_description(database, rows)
    found = read_descriptions(database, tables)
    assert found.by_column[ColumnName("pet", "name")].text == "the pet\u2019s name"
    assert found.unmatched == ()
    (pet,) = described(tables, found, values=False)
    assert pet.columns[1].description == "the pet\u2019s name" and pet.columns[1].value_description == ""


def test_what_describes_nothing_is_named_with_file_and_row(database):
    write_description(database, b"\xef\xbb\xbf" + HEADING + b"name,,x,,\nwings,,two,,\n")
    write_description(database, HEADING, name="boats.csv")
    found = read_descriptions(database, read_schema(database, 0))
    assert any("PET .csv, row 3" in line and "'wings'" in line for line in found.unmatched)
    assert any("boats.csv" in line for line in found.unmatched)


@pytest.mark.parametrize(
    "content",
    [
        b"column_name,description\nname,the name\n",
        HEADING.replace(b",", b";") + b"name;;the name;text;\n",
        (HEADING + b"name,,the name,text,\n").decode().encode("utf-16"),
        HEADING.replace(b"\n", b"\r\n") + b"na\0me,,the name,text,\r\n",
        HEADING + b'age,,"open quote,integer,\nname,,the name,text,\n',
        b"\xef\xbb\xbf" + HEADING + b"id,,\x96,,\nname,,the name,text,\n",
    ],
)
def test_a_description_is_read_in_the_states_that_there_are(database, content):
    write_description(database, content)
    found = read_descriptions(database, read_schema(database, 0))
    assert found.by_column[ColumnName("pet", "name")].text == "the name"
    assert bool(found.unmatched) == (b"open quote" in content)


@pytest.mark.parametrize("content", [b"", b"id,,number,integer,\n"])
def test_a_description_file_that_says_nothing_is_named_and_ends_nothing(database, content):
    write_description(database, content)
    found = read_descriptions(database, read_schema(database, 0))
    assert not found.by_column and "PET .csv, row 1" in found.unmatched[0]


def test_columns_of_a_gold_are_found_through_aliases():
    gold = "SELECT T1.`Home Town` FROM singer AS T1 JOIN song AS T2 ON T1.id = T2.singer_id WHERE T2.title = 'x'"
    assert gold_columns((gold,), TABLES) == {
        ColumnName("singer", "Home Town"), ColumnName("singer", "id"), ColumnName("song", "singer_id"),
        ColumnName("song", "title"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gold", "columns"),
    [
        ("SELECT count(*) FROM song", {"song.singer_id"}),
        ("SELECT * FROM song", {"song.singer_id", "song.title"}),
        ("SELECT age FROM singer JOIN song USING (ID)", {"singer.age", "singer.id", "song.singer_id"}),
        ("SELECT TITLE FROM SONG WHERE singer_id IN (SELECT id FROM singer)",
         {"song.title", "song.singer_id", "singer.id"}),
        ('SELECT age FROM singer WHERE id = "not a column"', {"singer.age", "singer.id"}),
        ("SELECT x.age FROM (SELECT age FROM singer) AS x", {"singer.age"}),
        ("SELECT age FORM singer WHERE ((", {"singer.age", "singer.id"}),
    ],
)  # fmt: skip
def test_columns_of_a_gold_are_rather_too_many_than_too_few(gold, columns):
    assert {f"{name.table}.{name.column}" for name in gold_columns((gold,), TABLES)} >= columns
    if "((" not in gold:
        assert {f"{name.table}.{name.column}" for name in gold_columns((gold,), TABLES)} == columns


def test_the_columns_of_every_accepted_gold_count():
    golds = ("SELECT age FROM singer", "SELECT title FROM song")
    assert gold_columns(golds, TABLES) == {ColumnName("singer", "age"), ColumnName("song", "title")}


def table(
    name: str, columns: str, primary_key: tuple[str, ...] = (), keys: dict[str, str] | None = None
) -> TableSchema:
    """`keys` lead from a column to `table.column`."""
    return TableSchema(
        name=name,
        columns=tuple(Column(name=column, type="") for column in columns.split()),
        primary_key=primary_key,
        foreign_keys=tuple(
            ForeignKey(columns=(own,), table=other.split(".")[0], referred_columns=(other.split(".")[1],))
            for own, other in (keys or {}).items()
        ),
    )


CHAIN = (
    table("city", "id name", ("id",)),
    table("shop", "id city_id size", ("id",), {"city_id": "city.id"}),
    table("sale", "id shop_id amount", ("id",), {"shop_id": "shop.id"}),
    table("far", "id note", ("id",)),
)


def shown(*names: str) -> set[str]:
    kept = with_keys(CHAIN, {ColumnName(*name.split(".")) for name in names})
    return {".".join(name) for name in column_names(with_columns(CHAIN, kept))}


def test_what_joins_the_tables_stays_and_nothing_of_the_others():
    assert shown("city.name") == {"city.id", "city.name"}
    assert shown("sale.amount", "shop.size") == {"sale.id", "sale.shop_id", "sale.amount", "shop.id", "shop.size"}
    assert shown("city.name", "sale.amount") == {
        "city.id", "city.name", "shop.id", "shop.city_id", "sale.id", "sale.shop_id", "sale.amount",
    }  # fmt: skip
    assert shown("city.name", "far.note") == {"city.id", "city.name", "far.id", "far.note"}


def test_keys_are_shown_between_the_tables_that_stay_alone():
    kept = with_columns(CHAIN, with_keys(CHAIN, {ColumnName("shop", "size"), ColumnName("sale", "amount")}))
    assert [len(one.foreign_keys) for one in kept] == [0, 1]


def test_columns_that_share_words_with_the_question_come_first():
    tables = (table("t", "colour HomeTowns key"), table("song", "x name"))
    ranked = ranked_columns(tables, "Which towns have songs?", first={ColumnName("t", "key")})
    assert [name.column for name in ranked] == ["key", "name", "x", "HomeTowns", "colour"]


@pytest.mark.parametrize(
    ("question", "column"),
    [
        ("What is the percent eligible free of each?", "Percent (%) Eligible Free (K-12)"),
        ("Count the FRPM of schools.", "frpmcount"),
        ("What do the cities cost?", "CityCost"),
        ("Show classes.", "class"),
    ],
)
def test_names_are_found_in_the_forms_that_schemas_have(question, column):
    tables = (table("a", "first second third"), replace(table("b", "x"), columns=(Column(name=column, type=""),)))
    assert ranked_columns(tables, question)[0] == ColumnName("b", column)


names = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=8)


@st.composite
def schemas(draw) -> tuple[TableSchema, ...]:
    tables = []
    for table in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        columns = draw(st.lists(names, min_size=1, max_size=6, unique=True))
        tables.append(
            TableSchema(
                name=table,
                columns=tuple(
                    Column(name=name, type="TEXT", examples=("'a'",) * draw(st.integers(0, 2)), description=draw(names))
                    for name in columns
                ),
                primary_key=tuple(columns[: draw(st.integers(0, 1))]),
                foreign_keys=(),
            )
        )
    return tuple(tables)


def tokens_of(tables) -> tuple[int, ...]:
    return tuple(range(len(prompts.created_tables(tables))))


@settings(max_examples=150)
@given(tables=schemas(), max_tokens=st.integers(1, 600), data=st.data())
def test_a_prompt_keeps_its_budget_or_is_refused_and_keys_and_wanted_columns_stay(tables, max_tokens, data):
    everything = column_names(tables)
    kept = frozenset(data.draw(st.sets(st.sampled_from(everything))))
    others = [name for name in ranked_columns(tables, "a question") if name not in kept]
    found = fitted_prompt(tables, tokens_of, max_tokens, lambda: ColumnOrder(kept=kept, others=others))
    assert found.refused == (found.num_tokens > max_tokens)
    assert not with_keys(tables, kept) & set(found.dropped_columns)
    assert bool(found.dropped_columns) <= (found.trimming is Trimming.COLUMNS)
    assert found.num_whole_tokens == len(tokens_of(tables))
    if found.num_whole_tokens <= max_tokens:
        assert found.trimming is Trimming.NONE and found.num_tokens == found.num_whole_tokens
    if found.refused:
        smallest = kept or frozenset(others[:1])
        assert set(everything) - with_keys(tables, smallest) == set(found.dropped_columns)


def test_without_a_budget_nothing_is_trimmed():
    found = fitted_prompt(TABLES, tokens_of, None, lambda: ColumnOrder(kept=(), others=()))
    assert (found.trimming, found.refused, found.dropped_columns) == (Trimming.NONE, False, ())


def test_where_types_have_to_go_all_columns_stay_on_few_lines_and_the_text_is_sql_still():
    columns = (
        Column(name="id", type="INTEGER", examples=("1",)),
        Column(name="Home Town", type="TEXT", matches=("'Rome'",), description="where"),
        Column(name="age", type="REAL"),
    )
    tables = (
        TableSchema(name="singer", columns=columns, primary_key=("id",), foreign_keys=()),
        TableSchema(name="both", columns=columns[:1], primary_key=(), foreign_keys=(), is_view=True),
    )
    terse = prompts.created_tables(trimmed(tables, Trimming.TYPES))
    first = "CREATE TABLE singer (id, `Home Town`, -- example: ['Rome']\nage, PRIMARY KEY (id));"
    assert terse == f"{first}\n\nCREATE VIEW both (id);"
    sqlite3.connect(":memory:").execute(first)

    budget = len(tokens_of(trimmed(tables, Trimming.TYPES)))
    order = ColumnOrder(kept=(), others=column_names(tables))
    found = fitted_prompt(tables, tokens_of, budget, lambda: order)
    assert (found.trimming, found.dropped_columns, found.refused) == (Trimming.TYPES, (), False)
    assert fitted_prompt(tables, tokens_of, budget - 1, lambda: order).trimming is Trimming.COLUMNS
