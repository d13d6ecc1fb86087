"""`floe bench prompts`: which stored texts of the golds prompts show, and what is lost where they have to be short."""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich import box
from rich.table import Table

from floe.actors.databases.contained_databases import read_schema
from floe.actors.databases.schemas import literal
from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.prompting.trimming import Trimming
from floe.actors.questions.gold_columns import gold_columns, gold_texts
from floe.actors.questions.questions import read_questions
from floe.cluster.databases.places import find_database
from floe.cluster.messages import Question
from floe.cluster.terminal.progress import make_console, progress_bar
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json, read_regular
from floe.configs.schema import PromptSection, RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesShown:
    """Texts of golds that some cell of the database is equal to; all of a question's texts have to be in its prompt."""

    num_questions: int  # questions whose golds have such a text
    num_all_shown: int
    num_named: int  # of these questions, whose texts all stand in the question or its evidence
    num_named_shown: int
    median_tokens: float
    median_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """Prompts of at most `max_tokens`, made without a look at the golds."""

    max_tokens: int
    num_questions: int
    num_shortened: int  # that lost anything and were not refused
    num_trimmed: int  # of these, the ones that lost columns
    num_gold_lost: int  # of these, the ones that lost a column that the gold reads
    num_refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Largest numbers of tokens, each of which trims the prompts of `settings`. Empty: nothing is trimmed."""

    max_tokens: tuple[int, ...] = ()
    settings: PromptSection = field(default_factory=partial(PromptSection, style="arctic"))


def budgets_of(max_tokens: Sequence[int], config: RunConfig | None) -> Budgets:
    """Return the given budgets, or that of a run's configuration, with the prompts of this run where there is one."""
    if config is None:
        return Budgets(max_tokens=tuple(max_tokens))
    return Budgets(max_tokens=tuple(max_tokens) or (config.max_prompt_tokens,), settings=config.prompt)


def bench_prompts(
    questions_path: Path, databases_dir: Path, tokenizer_dir: Path, budgets: Budgets, as_json: bool
) -> None:
    """Print both tables, or JSON. Raises UserError for what can't be read."""
    questions = read_questions(questions_path)
    with TemporaryDirectory(prefix="floe-prompts-") as folder:
        if databases_dir.suffix == ".json":
            made = Path(folder) / "databases"
            make_empty_databases(databases_dir, made)
            databases_dir = made
        questions = [one for one in questions if find_database(databases_dir, one.database_id) is not None]
        if not questions:
            raise UserError(f"No question of {questions_path} has its database in {databases_dir}: give its folder.")
        is_trimmed = bool(budgets.max_tokens)
        values = None if is_trimmed else values_shown(questions, databases_dir, tokenizer_dir, Path(folder))
        trimmed = [
            _trimmed(
                questions,
                databases_dir,
                PromptEncoder(
                    tokenizer_dir, databases_dir, budgets.settings, max_tokens=one, indices_dir=Path(folder) / "indices"
                ),
                one,
            )
            for one in budgets.max_tokens
        ]
    if as_json:
        found = {"values": None if values is None else asdict(values), "trimmed": [asdict(one) for one in trimmed]}
        print(json.dumps(found, indent=2))
        return
    console = make_console()
    if values is not None:
        console.print(_values_table(values, len(questions)))
    if trimmed:
        console.print(_trimmed_table(trimmed))


def values_shown(
    questions: Sequence[Question], databases_dir: Path, tokenizer_dir: Path, indices_dir: Path
) -> ValuesShown:
    settings = PromptSection(style="arctic", retrieved_values=20, example_values=2)
    encoder = PromptEncoder(tokenizer_dir, databases_dir, settings, indices_dir=indices_dir)
    counts = dict.fromkeys(("num_questions", "num_all_shown", "num_named", "num_named_shown"), 0)
    tokens, times_s, known = [], [], set()
    with progress_bar("Prompts", len(questions)) as advance:
        for one in questions:
            if one.database_id not in known:  # schema and index are made once
                encoder.encoded(one)
                known.add(one.database_id)
            started_s = time.perf_counter()
            prompt = encoder.encoded(one)
            times_s.append(time.perf_counter() - started_s)
            tokens.append(prompt.num_tokens)
            advance(1)
            texts = stored_texts(one, databases_dir)
            if not texts:
                continue
            shown = encoder.text(prompt.token_ids)
            asked = f"{one.evidence}\n{one.text}".lower()
            is_shown = all(literal(text) in shown for text in texts)
            is_named = all(text.strip().lower() in asked for text in texts)
            counts["num_questions"] += 1
            counts["num_all_shown"] += is_shown
            counts["num_named"] += is_named
            counts["num_named_shown"] += is_named and is_shown
    return ValuesShown(**counts, median_tokens=statistics.median(tokens), median_s=statistics.median(times_s))


def _trimmed(questions: Sequence[Question], databases_dir: Path, encoder: PromptEncoder, max_tokens: int) -> Trimmed:
    schema = cache(lambda name: read_schema(find_database(databases_dir, name) or databases_dir, 0))
    counts = dict.fromkeys(("num_shortened", "num_trimmed", "num_gold_lost", "num_refused"), 0)
    with progress_bar(f"Prompts of {max_tokens} tokens", len(questions)) as advance:
        for one in questions:
            prompt = encoder.encoded(one)
            advance(1)
            if prompt.refused:
                counts["num_refused"] += 1
                continue
            counts["num_shortened"] += prompt.trimming is not Trimming.NONE
            if prompt.dropped_columns:
                counts["num_trimmed"] += 1
                used = gold_columns(one.gold_sql, schema(one.database_id))
                counts["num_gold_lost"] += not used.isdisjoint(prompt.dropped_columns)
    return Trimmed(max_tokens=max_tokens, num_questions=len(questions), **counts)


def stored_texts(question: Question, databases_dir: Path) -> frozenset[str]:
    """Return the texts of the first gold that some cell of the database is equal to."""
    path = find_database(databases_dir, question.database_id)
    assert path is not None
    return frozenset(text for text in gold_texts(question.gold_sql[0]) if _is_stored(path, text))


@cache
def _is_stored(path: Path, text: str) -> bool:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        for table, column in _columns(path):
            sql = f"SELECT 1 FROM {table} WHERE {column} = ? AND typeof({column}) = 'text' LIMIT 1"
            try:
                if connection.execute(sql, (text,)).fetchone():
                    return True
            except sqlite3.Error:
                continue
    return False


@cache
def _columns(path: Path) -> tuple[tuple[str, str], ...]:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    tables = read_schema(path, 0)
    return tuple((quoted(table.name), quoted(column.name)) for table in tables for column in table.columns)


def make_empty_databases(tables_file: Path, folder: Path) -> None:
    """Make each database of a `tables.json` of Spider's or BIRD's, with its keys and without rows."""
    for one in parsed_json(read_regular(tables_file)):
        path = folder / one["db_id"] / f"{one['db_id']}.sqlite"
        path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(path)) as connection:
            for sql in _create_tables(one):
                connection.execute(sql)
            connection.commit()


def _create_tables(schema: dict[str, Any]) -> Iterator[str]:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    names, columns = schema["table_names_original"], schema["column_names_original"]
    keys = [key if isinstance(key, list) else [key] for key in schema["primary_keys"]]
    for number, name in enumerate(names):
        own = [index for index, (table, _) in enumerate(columns) if table == number]
        parts = [f"{quoted(columns[index][1])} {schema['column_types'][index]}" for index in own]
        parts += [f"PRIMARY KEY ({', '.join(quoted(columns[i][1]) for i in key)})" for key in keys if key[0] in own]
        for index, other in schema["foreign_keys"]:
            if index in own:
                table, column = columns[other]
                parts.append(
                    f"FOREIGN KEY ({quoted(columns[index][1])}) REFERENCES {quoted(names[table])} ({quoted(column)})"
                )
        yield f"CREATE TABLE {quoted(name)} ({', '.join(parts)})"


def _values_table(found: ValuesShown, num_questions: int) -> Table:
    table = Table(
        "of", "questions", "all texts shown", title=f"Stored texts, {num_questions} questions", box=box.SIMPLE_HEAD
    )
    for name, num, num_shown in (
        ("golds with a stored text", found.num_questions, found.num_all_shown),
        ("of these, all named", found.num_named, found.num_named_shown),
    ):
        table.add_row(name, str(num), f"{num_shown / max(num, 1):.1%}")
    table.caption = f"median prompt {found.median_tokens:,.0f} tokens, made in {found.median_s * 1000:.1f} ms"
    return table


def _trimmed_table(found: Sequence[Trimmed]) -> Table:
    heads = ("at most tokens", "questions", "trimmed", "lost columns", "of these a gold's", "refused")
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for one in found:
        share = f"{one.num_gold_lost} ({one.num_gold_lost / max(one.num_trimmed, 1):.1%})"
        counts = (one.num_questions, one.num_shortened, one.num_trimmed)
        table.add_row(f"{one.max_tokens:,}", *map(str, counts), share, str(one.num_refused))
    return table
