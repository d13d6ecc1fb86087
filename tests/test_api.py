"""What `import floe` offers: arguments, refusals, scoring, and a process left as it was; starts no model."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest

import floe
from floe.actors.databases.contained_databases import read_schema
from floe.actors.questions.question_sets import load_question_sets
from floe.actors.questions.questions import read_questions
from floe.cluster.api.questions import questions_of, write_questions
from floe.cluster.api.settings import configuration, folder_texts, override_texts, reward_texts
from floe.cluster.api.shown import shown_progress
from floe.cluster.api.turn import own_turn
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.run_folder.file_names import METRICS_FILE, REPORT_FILE
from floe.cluster.run_folder.lock import run_lock
from floe.cluster.terminal.live_terminal import live_view
from floe.cluster.terminal.notebook_view import plain_console, text_of
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import Interrupted, UserError
from floe.configs.files.loading import dump_config
from floe.configs.schema import DataSection
from tests.command_line import REPOSITORY

GOLD = "SELECT name FROM emp"


@pytest.fixture
def databases(tmp_path) -> Path:
    folder = tmp_path / "databases"
    (folder / "firm").mkdir(parents=True)
    with sqlite3.connect(folder / "firm" / "firm.sqlite") as connection:
        connection.executescript(
            "CREATE TABLE emp (id INTEGER, name TEXT); INSERT INTO emp VALUES (1, 'Ada'), (2, 'Bo')"
        )
    connection.close()
    return folder


def asked(question: str = "Who works here?", **others) -> floe.Question:
    return floe.Question(**{"db_id": "firm", "question": question, "gold_sql": GOLD, **others})


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


# Questions


def test_questions_are_the_same_when_they_are_read_back(tmp_path):
    given = [asked(), asked("Which names?", gold_sql=[GOLD, f"{GOLD} ORDER BY 1"], evidence="All.", question_id=7)]
    questions = questions_of(iter(given))
    assert [one.question_id for one in questions] == ["0", "7"]
    assert questions[1].gold_sql == (GOLD, f"{GOLD} ORDER BY 1") and questions[1].evidence == "All."
    write_questions(tmp_path / "questions.json", questions)
    assert read_questions(tmp_path / "questions.json") == questions == questions_of(tmp_path / "questions.json")


def test_records_and_a_data_frame_are_questions_too(tmp_path):
    records = [
        {"db_id": "firm", "question": "Who?", "SQL": GOLD, "evidence": "x"},
        {"db_id": "firm", "question": "Who else?", "SQL": np.array([GOLD], dtype=object), "evidence": None},
    ]
    frame = pandas.DataFrame(records).assign(question_id=np.array([5, 6]), embedding=[np.zeros(2), np.zeros(2)])
    assert [one.text for one in questions_of(records)] == ["Who?", "Who else?"]
    assert [(one.question_id, one.evidence, one.gold_sql) for one in questions_of(frame)] == [
        ("5", "x", (GOLD,)), ("6", "", (GOLD,)),
    ]  # fmt: skip
    (tmp_path / "own.csv").write_text(f"db_id,question,gold_sql\nfirm,Who?,{GOLD}\n")
    assert questions_of(str(tmp_path / "own.csv"))[0].gold_sql == (GOLD,)


def test_cells_of_a_data_frame_are_taken_into_questions(databases):
    cells = asked(gold_sql=np.array([GOLD, "SELECT 1"]), question_id=np.int64(7), evidence=float("nan"))
    (question,) = questions_of([cells])
    assert (question.question_id, question.gold_sql, question.evidence) == ("7", (GOLD, "SELECT 1"), "")
    assert asked(gold_sql=pandas.Series([GOLD])) == asked(gold_sql=[GOLD])
    (score,) = floe.score([(cells, GOLD)], databases=databases)
    assert score.is_correct and score.question_id == "7"


@pytest.mark.parametrize("column", ["query", "SQL", "sql", "gold_sql"])
def test_a_data_frame_may_call_its_columns_as_a_file_does(column):
    frame = pandas.DataFrame([{"db_id": "firm", "question": "Who?", column: GOLD}])
    assert questions_of(frame)[0].gold_sql == (GOLD,)
    odd = frame.rename(columns={"question": "frage"})
    with pytest.raises(UserError, match=rf"questions\[0\] has no question: .*its fields are db_id, frage, {column}\)"):
        questions_of(odd)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([asked(), "Who?"], r"questions\[1\] is of type str"),
        ([asked(), asked(db_id="../x")], r"questions\[1\] has the db_id '../x'"),
        ([asked(gold_sql="")], r"questions\[0\] has no gold query"),
        ([asked(question_id=1), asked("Other?", question_id=1)], r"questions\[1\] has the question_id '1' of another"),
        ([], "There are no questions"),
        (5, "questions is of type int"),
        ("gone.json", "There is no questions file"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_named(given, said):
    with pytest.raises(UserError, match=said):
        questions_of(given)


# Configuration


def test_overrides_are_a_mapping_or_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("run: {name: mine}")
    given = {
        "run.num_steps": np.int64(5),
        "model": {"path": tmp_path, "max_context_tokens": 300},
        "run.name": "it: is #1",
    }
    config = configuration("smoke", override_texts(given))
    assert (config.run.num_steps, config.run.name, config.model.path) == (5, "it: is #1", str(tmp_path))
    assert configuration(None, override_texts(["run.num_steps=3", "evaluation.enabled=false"])).run.num_steps == 3
    assert configuration("~/run.yaml", []).run.name == "mine"
    assert configuration(None, override_texts({"reward.suite": None})).reward.suite is None
    with pytest.raises(UserError, match=r"overrides is 'run\.num_steps=5'"):
        override_texts("run.num_steps=5")
    with pytest.raises(UserError, match=r"The value of run\.num_steps .*of type object"):
        override_texts({"run.num_steps": object()})
    with pytest.raises(floe.ConfigError, match=r"run\.num_step"):
        configuration("smoke", override_texts({"run.num_step": 5}))


@pytest.mark.parametrize(
    "value",
    ["\U0001f600 \u00e9 \\ud83d", "a\x85b\u2028c\x7f\ufeff: #", {"in": ["\U0001f600", 1e-06, None]}, ["10", "yes", ""]],
)
def test_values_of_any_text_are_what_they_were(value):
    read = configuration(None, override_texts({"reward.design": "m:R", "reward.arguments": {"value": value}}))
    assert read.reward.arguments == {"value": value}
    assert configuration(None, reward_texts("m:R", {"value": value})).reward == read.reward


def test_folders_of_any_name_are_what_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOE_HOME", str(tmp_path / "home \U0001f600"))
    given = {"model.path": tmp_path / "\U0001f600: #1", "reward.design": "m:R", "reward.arguments.folder": tmp_path}
    config = configuration(None, override_texts(given))
    assert (config.model.path, config.reward.arguments) == (f"{tmp_path}/\U0001f600: #1", {"folder": str(tmp_path)})
    assert config.run.home_dir == tmp_path / "home \U0001f600"


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {1, 2}, {(1, 2): 3}, b"text"])
def test_values_that_no_file_could_hold_are_refused(value):
    with pytest.raises(UserError, match=r"The value of reward_arguments holds what a configuration can't"):
        reward_texts("m:R", {"value": value})


def test_a_reward_of_ones_own_is_named_as_a_reference():
    assert reward_texts(questions_of, {"penalty": 0.5}) == [
        'reward.design="floe.cluster.api.questions:questions_of"',
        'reward.arguments={"penalty": 0.5}',
    ]
    assert reward_texts("sql_r1", None) == ['reward.design="sql_r1"'] and reward_texts(None, None) == []
    with pytest.raises(UserError, match="can't be found in its module"):
        reward_texts(lambda group: 1.0, None)


def test_a_reward_is_found_wherever_its_module_lies(databases, tmp_path, monkeypatch):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "reward_of_script.py").write_text(
        "class Fixed:\n    def __init__(self, value): self.value = value\n"
        "    def __call__(self, group): return [self.value] * len(group.candidates)\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "scripts")
    fixed = import_module("reward_of_script").Fixed
    assert folder_texts(fixed) == [f'run.plugin_folder="{tmp_path / "scripts"}"']
    assert folder_texts("arctic") == folder_texts(pandas.DataFrame) == []
    (score,) = floe.score([(asked(), GOLD)], databases=databases, reward=fixed, reward_arguments={"value": 3.0})
    assert score.reward == 3.0


# Refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"questions": [asked()]}, "questions are given without databases"),
        ({"databases": "x"}, "databases is given without questions"),
        ({"preset": "gone"}, "There is no configuration file"),
        ({"overrides": {"run.retries": 2}}, "run.retries is 2"),
        ({"overrides": {"run.num_steps": 0, "warm_start.enabled": False}}, "run.num_steps"),
        ({"reward": "gone"}, "reward.design"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(arguments, said, tmp_path):
    with pytest.raises(UserError, match=said):
        floe.train(**{"preset": "smoke", **arguments}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda file, folder: floe.train([asked()], databases=file, preset="smoke", run_dir=folder / "run"),
        lambda file, folder: floe.score([(asked(), GOLD)], databases=file),
        lambda file, folder: floe.evaluate(None, [asked()], databases=file, preset="smoke", progress=False),
        lambda file, folder: floe.SqlReward(file),
        lambda file, folder: load_question_sets(
            DataSection(source="files", questions=folder / "questions.json", databases=file), folder
        ),
    ],
    ids=["train", "score", "evaluate", "SqlReward", "data.databases"],
)
def test_a_database_in_the_place_of_their_folder_is_answered_with_the_folder(call, databases, tmp_path):
    file = databases / "firm" / "firm.sqlite"
    with pytest.raises(UserError, match=f"{file} is a file: give the folder that holds it, {file.parent}, .* 'firm'"):
        call(file, tmp_path)
    assert not (tmp_path / "run").exists()
    (score,) = floe.score([(asked(), GOLD)], databases=file.parent)  # what the sentence says to give
    assert score.is_correct


def test_a_folder_that_holds_a_run_or_none_is_refused(tmp_path):
    dump_config(configuration("smoke", []), tmp_path / "run" / "config.yaml")
    with pytest.raises(UserError, match="holds a run already"):
        floe.train(preset="smoke", run_dir=tmp_path / "run")
    for call in (floe.Run, floe.resume):
        with pytest.raises(UserError, match="is no run folder"):
            call(tmp_path)


def test_questions_in_the_place_of_the_adapter_are_refused():
    with pytest.raises(UserError, match="adapter is of type list: give a run"):
        floe.evaluate([asked()])


def test_one_call_at_a_time_in_a_process(tmp_path):
    with own_turn():
        for call in (
            lambda: floe.train(preset="smoke", run_dir=tmp_path / "run"),
            lambda: floe.evaluate(preset="smoke"),
            lambda: floe.ask("Who?", "x.sqlite"),
        ):
            with pytest.raises(UserError, match="Another call of floe is at work"):
                call()
    with own_turn():  # free again
        pass


def test_a_ray_of_the_callers_is_not_touched(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="Ray is in use in this process"):
        floe.evaluate(preset="smoke")


@pytest.mark.parametrize(
    ("questions", "overrides", "said"),
    [
        ([asked()], {}, "The split 'train' has no question"),
        ([asked(db_id="gone")], {}, "1 databases .* the first is 'gone'"),
        (None, {"model.path": "/gone/model"}, "/gone/model"),
    ],
    ids=["too few questions", "unknown database", "no model"],
)
def test_data_and_models_that_cant_be_used_fail_and_leave_nothing(
    questions, overrides, said, databases, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("FLOE_HOME", str(tmp_path / "home"))
    before, run_dir = children(), tmp_path / "run"
    with pytest.raises(UserError, match=said):
        floe.train(
            questions,
            databases=databases if questions else None,
            preset="smoke",
            overrides=overrides,
            run_dir=run_dir,
            progress=False,
        )
    assert children() <= before
    assert floe.Run(run_dir).state == "failed"
    with run_lock(run_dir):  # free
        pass
    assert capfd.readouterr() == ("", "")


# The process


def test_the_process_is_as_it_was_after_a_failure(databases, monkeypatch):
    monkeypatch.setenv("KEPT", "1")
    before = (
        dict(os.environ),
        list(sys.path),
        signal.getsignal(signal.SIGTERM),
        logging.getLogger("ray").level,
        children(),
    )
    with pytest.raises(ValueError, match="the fault"), own_turn():
        os.environ["ADDED"] = os.environ["KEPT"] = "2"
        sys.path.insert(0, "/added")
        signal.signal(signal.SIGTERM, lambda *_: None)
        logging.getLogger("ray").setLevel(before[3] + 1)
        read_schema(databases / "firm" / "firm.sqlite", 0)
        assert children() > before[4]
        raise ValueError("the fault")
    assert before == (
        dict(os.environ), list(sys.path), signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level, children(),
    )  # fmt: skip
    assert read_schema(databases / "firm" / "firm.sqlite", 0)  # the next call starts a child of its own


def test_an_exit_is_an_exception():
    with pytest.raises(Interrupted, match=r"floe\.resume"), own_turn():
        sys.exit(signal.SIGTERM)


def test_a_fault_of_another_process_is_the_sentence_alone():
    """Ray raises an error that is both of its own and of the fault's class, which has the fault under `cause`."""
    from ray.exceptions import RayTaskError

    wrapped = RayTaskError("f", "a long trace", floe.UserError("The sentence.")).as_instanceof_cause()
    wrapped.add_note("where: there")
    with pytest.raises(floe.UserError) as caught, own_turn():
        raise wrapped
    assert type(caught.value) is floe.UserError and str(caught.value) == "The sentence."
    assert caught.value.__notes__ == ["where: there"]


def test_variables_that_force_colours_put_no_control_sequences_into_plain_text(monkeypatch, capfd):
    """A notebook's kernel sets them, and no file is then a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    written = io.StringIO()
    progress = Progress(plain_console(written), 3)
    with live_view(progress):
        progress.phase("set-up")
    assert written.getvalue() == "set-up  (after 0 s)\n" and "\x1b" not in text_of(lambda one: one.print("[bold]x"))
    with shown_progress(False, 3) as progress, live_view(progress):
        progress.phase("set-up")
    assert capfd.readouterr() == ("", "")


# Runs


def test_a_run_reads_its_folder(tmp_path):
    dump_config(configuration("smoke", []), tmp_path / "config.yaml")
    run = floe.Run(str(tmp_path))
    assert (run.folder, run.config.run.name, run.state, run.table) == (tmp_path, "smoke", "not known", None)
    assert run.metrics.empty and "0 of 3 steps" in run._repr_html_()
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "kl": NaN}\n{"step": 2, "kl": 0.5}\n{"step": 3, "k')
    assert list(run.metrics["step"]) == [1, 2]
    with pytest.raises(UserError, match="has no adapter"):
        _ = run.adapter
    (tmp_path / REPORT_FILE).write_text("{}")
    with pytest.raises(UserError, match="can't be read"):
        _ = run.table


def test_a_run_is_read_when_the_package_of_its_plugin_is_gone(tmp_path):
    dump_config(configuration("smoke", []), tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("design: arctic", "design: gone"))
    run = floe.Run(tmp_path)
    assert run.records == [] and run.config.reward.design == "gone"
    with pytest.raises(UserError, match=r"'gone', which no installed package offers \(entry points floe\.rewards\)"):
        check_plugins(run.config)
    with pytest.raises(UserError, match="must be 'arctic'"):
        configuration(tmp_path / "config.yaml", [])


def test_without_pandas_metrics_are_records(tmp_path, monkeypatch):
    dump_config(configuration("smoke", []), tmp_path / "config.yaml")
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n')
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert floe.Run(tmp_path).metrics == [{"step": 1}]


# Scores


def test_pairs_are_scored_in_their_order_and_no_process_is_left(databases):
    before = children()
    one, other = asked(), asked("And the ids?", gold_sql=["SELECT 1", "SELECT id FROM emp"])
    scores = floe.score(
        [(one, GOLD), (other, "SELECT id FROM emp"), (one, "SELECT 1"), (one, None), (other, "DELETE FROM emp")],
        databases=databases,
    )
    assert [(one.outcome, one.reward) for one in scores] == [
        ("match", 1.0), ("match", 1.0), ("mismatch", 0.1), ("no_sql", 0.0), ("rejected", 0.0),
    ]  # fmt: skip
    assert [one.question_id for one in scores] == ["0", "1", "0", "0", "1"]
    assert scores[0].is_correct and scores[0].sql == GOLD and scores[4].message
    assert children() <= before


def test_predictions_by_id_in_order_and_from_a_file(databases, tmp_path):
    questions = [asked(question_id="a"), asked("And you?", question_id="b")]
    outcomes = ["mismatch", "match", "match"]

    def found(predictions, **options) -> list[str]:
        return [one.outcome for one in floe.score(predictions, questions, databases=databases, **options)]

    assert found({"b": "SELECT 1", "a": [GOLD, GOLD]}) == outcomes
    assert found(["SELECT 1", [GOLD, GOLD]]) == outcomes
    assert found([f"So:\n```sql\n{GOLD}\n```", None], are_completions=True) == ["match", "no_sql"]
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(json.dumps({"question_id": q, "sql": s}) for q, s in (("b", "SELECT 1"), ("a", GOLD))))
    assert found(path) == ["mismatch", "match"]
    assert floe.score([], databases=databases) == []


def test_other_designs_have_terms(databases):
    (score,) = floe.score(
        [(asked(), GOLD)], databases=databases, reward="reasoning_sql", overrides={"reward.reasoning_judge_weight": 0}
    )
    assert score.terms and score.reward == pytest.approx(sum(score.terms.values()))


@pytest.mark.parametrize(
    ("predictions", "questions", "said"),
    [
        ("SELECT 1", None, "no .Question, SQL. pairs"),
        (["SELECT 1"], None, "no .Question, SQL. pairs"),
        ({"x": GOLD}, [asked()], "question_id 'x'"),
        ([GOLD, GOLD], [asked()], "2 predictions for 1 questions"),
        ([5], [asked()], "is of type int"),
        ([[5]], [asked()], "is of type int"),
        ([(asked(db_id="gone"), GOLD)], None, "There is no database"),
    ],
)
def test_predictions_that_cant_be_used_are_refused(predictions, questions, said, databases):
    with pytest.raises(UserError, match=said):
        floe.score(predictions, questions, databases=databases)


# The package


def test_importing_it_is_light_and_every_name_is_there():
    heavy = ("ray", "torch", "vllm", "transformers")
    code = (
        f"import floe, sys; [getattr(floe, n) for n in floe.__all__]; print([n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"
    assert all(getattr(floe, name) for name in floe.__all__) and set(floe.__all__) <= set(dir(floe))
    with pytest.raises(AttributeError, match="nothing"):
        _ = floe.nothing


@pytest.mark.heavy
def test_a_type_checker_knows_the_names(tmp_path):
    """Types are those of floe's own sources, read as a user's checker does through py.typed."""
    good = (
        "from pathlib import Path\nimport floe\n"
        "question = floe.Question(db_id='a', question='b', gold_sql=['c'])\n"
        "run: floe.Run = floe.train([question], databases=Path('x'), overrides={'run.num_steps': 5})\n"
        "adapter: Path = run.adapter\n"
        "share: float = run.evaluate(num_samples=4).pass_at[4].mean\n"
        "scores: list[floe.Score] = floe.score([(question, 'SELECT 1')], databases='x')\n"
        "sql: str | None = floe.ask('q', 'x.sqlite', adapter=run).sql\n"
    )
    bad = "floe.Question(db_id=1, question='b', gold_sql='c')\nfloe.train(steps=5)\nfloe.nothing\n"
    path = tmp_path / "own.py"
    path.write_text(good + bad)
    options = ("--strict", "--follow-imports=silent", "--config-file", "pyproject.toml")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if "error" in line and "own.py" in line]
    assert lines == ["9", "10", "11"], done.stdout + done.stderr


def test_threads_may_call_it(databases):
    found: list[floe.Score | BaseException] = []

    def call() -> None:
        try:
            found.extend(floe.score([(asked(), GOLD)], databases=databases))
        except BaseException as fault:
            found.append(fault)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [getattr(one, "outcome", one) for one in found] == ["match"]
