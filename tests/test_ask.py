"""`floe ask`: rows as a person sees them, one file as a folder of databases, and the merged model in the real vLLM."""

import io
import json
import sqlite3
from contextlib import closing

import pytest
from rich.console import Console

from floe.cluster.commands.export import policy_of
from floe.cluster.databases.single_database import single_database
from floe.cluster.evaluation.answer_table import Asked
from floe.cluster.messages import Outcome, QueryResult
from floe.configs.errors import UserError
from floe.configs.schema import RewardSection
from floe.reward_service.sandbox.result_reader import ResultReader
from tests.command_line import config, floe
from tests.run_folders import run_folder


def answer(result: QueryResult, sql: str | None = "SELECT 1", **changes) -> Asked:
    fields = {
        "question": "?",
        "database": "x.sqlite",
        "adapter": None,
        "completion": "I do not know",
        "is_truncated": False,
    }
    return Asked(sql=sql, result=result, **fields | changes)


def shown(asked: Asked) -> str:
    console = Console(file=io.StringIO(), width=100)
    asked.render(console)
    return console.file.getvalue()


def test_rows_are_shown_and_counted():
    rows = tuple((str(i), None) for i in range(20))
    result = QueryResult(
        outcome=Outcome.MATCH, num_rows=1234, num_columns=9, columns=("number", "[b]note"), rows=rows
    )  # fmt: skip
    text = shown(answer(result, "SELECT a\nFROM b"))
    assert text.startswith("SELECT a\nFROM b\n")
    assert "[b]note" in text and text.count("NULL") == 20
    assert "1,234 rows, the first 20 are shown; 7 of 9 columns are not shown" in text
    assert answer(result).fault() is None


def test_nothing_reaches_the_terminal_that_it_would_obey():
    cells = ("\x1b[2J", "a\nb\udcff")
    result = QueryResult(outcome=Outcome.MATCH, num_rows=1, num_columns=2, columns=("\x07", "x"), rows=(cells,))
    text = shown(answer(result, "SELECT '\x1b]0;title\x07'"))
    assert all(one.isprintable() or one == "\n" for one in text)
    assert json.loads(answer(result).to_json())["rows"] == [["\x1b[2J", "a\nb\udcff"]]


def test_a_fault_is_said_and_shows_no_table():
    failed = answer(QueryResult(outcome=Outcome.RUNTIME_ERROR, message="no such column: x"), is_truncated=True)
    assert shown(failed) == "SELECT 1\n"
    assert failed.fault() == "runtime_error: no such column: x. The completion was cut off at its longest."
    nothing = answer(QueryResult(outcome=Outcome.NO_SQL, message="the completion holds no SQL"), sql=None)
    assert shown(nothing) == "I do not know\n"
    fields = json.loads(failed.to_json())
    assert (fields["sql"], fields["outcome"], fields["rows"]) == ("SELECT 1", "runtime_error", [])


def make_database(path, *, wal: bool = False) -> sqlite3.Connection:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript("CREATE TABLE item (name TEXT); INSERT INTO item VALUES ('pen');")
    return connection


@pytest.mark.parametrize("name", ["shop.sqlite", "my shop.db", "shop/shop.sqlite", "ohne Endung ä?#%"])
@pytest.mark.parametrize("wal", [False, True])
def test_a_file_of_any_name_is_read_with_what_its_log_holds(tmp_path, name, wal):
    path = tmp_path / name
    with closing(make_database(path, wal=wal)) as writer:
        writer.execute("INSERT INTO item VALUES ('cup')")
        writer.commit()
        before = sorted(one.name for one in path.parent.iterdir())
        with single_database(path) as found:
            with closing(ResultReader(found.databases_dir, RewardSection(), max_rows=20)) as reader:
                results = reader.read(found.database_id, ["SELECT name FROM item ORDER BY 1", "DELETE FROM item"])
            assert (found.databases_dir / found.database_id / f"{found.database_id}.sqlite").samefile(path)
        assert results[0].rows == (("cup",), ("pen",))
        assert results[1].outcome is Outcome.REJECTED
        assert sorted(one.name for one in path.parent.iterdir()) == before
        assert writer.execute("SELECT count(*) FROM item").fetchone() == (2,)


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "text.sqlite").write_text("name,price")
    for path, complaint in (
        (tmp_path / "text.sqlite", "is no SQLite file"),
        (tmp_path / "none", "There is no database"),
    ):
        with pytest.raises(UserError, match=complaint), single_database(path):
            pass


def test_the_policy_is_a_runs_or_a_folder_with_a_configuration(tmp_path):
    run_dir = run_folder(tmp_path / "run", overrides=["run.name=own"])
    latest, best = run_dir / "adapters" / "latest", run_dir / "adapters" / "best"
    latest.mkdir(parents=True)
    assert policy_of(run_dir, None, [])[1] == latest
    best.mkdir()
    resolved, folder = policy_of(run_dir, None, ["run.seed=7"])
    assert (resolved.run.name, resolved.run.seed, folder) == ("own", 7, best)
    resolved, folder = policy_of(latest, None, [])
    assert (resolved.run.name, folder) == ("own", latest)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert policy_of(elsewhere, run_dir / "config.yaml", [])[0].run.name == "own"
    assert policy_of(None, run_dir / "config.yaml", [])[1] is None
    for adapter in (elsewhere, None):
        with pytest.raises(UserError, match="give --config"):
            policy_of(adapter, None, [])


@pytest.mark.engine
@pytest.mark.long
def test_a_question_is_answered_by_the_adapter_and_by_the_merged_model(smoke_run, tmp_path):
    """Export, then both ways into the real vLLM; the demo's own question, whose answer the tiny model may not know."""
    home = smoke_run.home
    done = floe("export", str(smoke_run.run_dir), "--merged", str(tmp_path / "merged"), home=home)
    assert done.returncode == 0, done.stderr
    question = json.loads((home / "demo" / "train.json").read_text())[0]
    database = home / "demo" / "databases" / question["db_id"] / f"{question['db_id']}.sqlite"
    given = ["--database", str(database), question["question"], "--json", "cluster.address=local"]
    by_adapter = floe("ask", "--adapter", str(smoke_run.run_dir), *given, home=home)
    merged = f"model.path={tmp_path / 'merged'}"
    by_merged = floe("ask", "--config", config("smoke.yaml"), *given, merged, home=home)
    for done in (by_adapter, by_merged):
        answered = json.loads(done.stdout)
        assert done.returncode == (0 if answered["outcome"] == "match" else 3), done.stderr
        assert answered["question"] == question["question"]
        if answered["outcome"] == "match":
            with closing(sqlite3.connect(database)) as connection:
                assert answered["num_rows"] == len(connection.execute(answered["sql"]).fetchall())
    # Greedy decoding of the same policy, in bfloat16 with one rounding more or less: alike except for rare ties.
    assert json.loads(by_adapter.stdout)["completion"][:20] == json.loads(by_merged.stdout)["completion"][:20]
