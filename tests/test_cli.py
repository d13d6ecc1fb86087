"""The command line: light to import, its exit codes, and `floe score` end to end on real SQLite."""

import io
import json
import re
import sqlite3
import subprocess
import sys
import threading
import types

import pytest

from floe.cluster import cli
from floe.cluster.evaluation.submissions import BIRD_SEPARATOR
from floe.cluster.messages import Outcome, Score
from floe.configs.errors import UserError

HEAVY = ("torch", "ray", "vllm", "transformers", "sqlalchemy", "deepspeed", "peft", "numpy", "tensorboard", "plotly")


def run_floe(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the console script."""
    monkeypatch.setattr(sys, "argv", ["floe", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def operation_that(monkeypatch, name: str, function) -> None:
    """Put a fake in the place of `floe.cluster.operations.<name>`, whose real one trains a model."""
    module = types.ModuleType(f"floe.cluster.operations.{name}")
    setattr(module, name, function)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(f"floe.cluster.operations.{name}", module, raising=False)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOE_HOME", raising=False)
    monkeypatch.delenv("FLOE_DEBUG", raising=False)
    path = tmp_path / "run.yaml"
    path.write_text("run:\n  home: /from/file\n")
    return path


def test_importing_the_command_line_is_light():
    code = f"import floe.cluster.cli, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "floe.cluster.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in ("train", "evaluate", "score", "version"))


def test_version(capsys, monkeypatch):
    code, out, _ = run_floe(capsys, monkeypatch, "version")
    assert code == 0
    assert out.strip()[0].isdigit()


def test_train_hands_over_the_resolved_configuration(capsys, monkeypatch, config, tmp_path):
    calls = []
    operation_that(monkeypatch, "train", lambda *arguments: calls.append(arguments))
    arguments = ("train", "--config", config, "run.seed=7", "--run-dir", tmp_path / "r", "rollout.group_size=4")
    assert run_floe(capsys, monkeypatch, *arguments)[0] == 0
    ((resolved, run_dir),) = calls
    assert (resolved.run.seed, resolved.rollout.group_size, run_dir) == (7, 4, tmp_path / "r")


def test_evaluate_checks_the_split(capsys, monkeypatch, config, tmp_path):
    calls = []
    operation_that(monkeypatch, "evaluate", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(
        sys.modules["floe.cluster.operations.evaluate"], "EvaluateOptions", types.SimpleNamespace, raising=False
    )
    arguments = ("--adapter", tmp_path, "--split", "tune", "--samples", 2, "--temperature", 0.5, "--limit", 7, "--json")
    assert run_floe(capsys, monkeypatch, "evaluate", "--config", config, *arguments)[0] == 0
    resolved, options = calls[0]
    settings = resolved.evaluation
    assert (settings.split, settings.num_samples, settings.temperature, settings.max_questions) == ("tune", 2, 0.5, 7)
    assert (options.adapter, options.data, options.as_json) == (tmp_path, None, True)
    code, _, err = run_floe(capsys, monkeypatch, "evaluate", "--config", config, "--split", "dev")
    assert code == 2
    assert "evaluation.split is 'dev'" in err


def test_floe_home_beats_the_file_and_an_override_beats_both(capsys, monkeypatch, config):
    homes = []
    operation_that(monkeypatch, "train", lambda resolved, run_dir: homes.append(str(resolved.run.home)))
    run_floe(capsys, monkeypatch, "train", "--config", config)
    monkeypatch.setenv("FLOE_HOME", "/from/the: environment")
    run_floe(capsys, monkeypatch, "train", "--config", config)
    run_floe(capsys, monkeypatch, "train", "--config", config, "run.home=/from/override")
    assert homes == ["/from/file", "/from/the: environment", "/from/override"]


class WrappedUserError(UserError):
    """An error of another process as Ray raises it: its text is a trace, the error itself lies under `cause`."""

    def __init__(self) -> None:
        super().__init__("Traceback\nof many\nlines")
        self.cause = UserError("The disk is full: free some.")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("The port is busy: choose another."), 2, "floe: The port is busy: choose another.\n"),
        (WrappedUserError(), 2, "floe: The disk is full: free some.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes_of_errors(capsys, monkeypatch, config, error, code, sentence):
    def fail(*_):
        raise error

    operation_that(monkeypatch, "train", fail)
    assert run_floe(capsys, monkeypatch, "train", "--config", config) == (code, "", sentence)


def test_an_error_nobody_foresaw_is_a_sentence_and_its_trace_is_in_a_file(capsys, monkeypatch, config, tmp_path):
    def fail(*_):
        raise RuntimeError("a bug")

    operation_that(monkeypatch, "train", fail)
    monkeypatch.setenv("FLOE_HOME", str(tmp_path))
    code, out, err = run_floe(capsys, monkeypatch, "train", "--config", config, "--run-dir", tmp_path / "run")
    log = tmp_path / "logs" / "failure.log"
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "floe: RuntimeError: a bug: unexpected error; see the log.",
        "  where: floe train",
        f"  log: {log}",
    ]
    assert "in fail\n" in log.read_text() and "RuntimeError: a bug" in log.read_text()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), UserError("x")])
def test_debugging_keeps_the_trace(monkeypatch, config, error, tmp_path):
    def fail(*_):
        raise error

    operation_that(monkeypatch, "train", fail)
    monkeypatch.setattr(sys, "argv", ["floe", "train", "--config", str(config), "--run-dir", str(tmp_path / "run")])
    monkeypatch.setenv("FLOE_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main()


@pytest.mark.parametrize("arguments", [("train",), ("train", "--config", "none.yaml"), ("nonsense",), ("score",)])
def test_unusable_arguments_end_with_2(capsys, monkeypatch, arguments):
    code, out, err = run_floe(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.fixture
def shop(tmp_path):
    """A folder with the database `shop`, three questions over it, one with a gold query that does not run."""
    (tmp_path / "databases" / "shop").mkdir(parents=True)
    connection = sqlite3.connect(tmp_path / "databases" / "shop" / "shop.sqlite")
    connection.executescript("CREATE TABLE item (name TEXT, price REAL); INSERT INTO item VALUES ('a', 1), ('b', 2);")
    connection.close()
    golds = ["SELECT count(*) FROM item", "SELECT name FROM item WHERE price > 1", "SELECT nothing FROM item"]
    questions = [{"db_id": "shop", "question": "?", "query": gold} for gold in golds]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    return tmp_path


def run_score(capsys, monkeypatch, folder, lines: list, *options: object) -> tuple[int, str, str]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "predictions.jsonl").write_text(text)
    files = ("--questions", folder / "questions.json", "--databases", folder / "databases")
    return run_floe(capsys, monkeypatch, "score", *files, "--predictions", folder / "predictions.jsonl", *options)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_score_keeps_order_and_the_types_of_ids(capsys, monkeypatch, shop, num_workers):
    lines = [
        {"question_id": 1, "sql": "SELECT 'b'"},
        "",
        {"question_id": "0", "sql": "SELECT 3"},
        {"question_id": 0, "sql": "SELECT 2"},
        {"question_id": 1, "completion": "```sql\nSELECT name FROM item WHERE name = 'b'\n```"},
        {"question_id": 1, "sql": "SELEC"},
    ]
    code, out, err = run_score(capsys, monkeypatch, shop, lines, "--json", "--workers", num_workers)
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [result["question_id"] for result in results] == [1, "0", 0, 1, 1]
    outcomes = [result["outcome"] for result in results]
    assert outcomes[:4] == ["match", "mismatch", "match", "match"]
    assert outcomes[4] not in ("match", "mismatch")
    assert all(set(result) - {"message"} == {"question_id", "reward", "outcome", "seconds"} for result in results)
    assert "message" not in results[0] and "SELEC" in results[4]["message"]
    assert "Scored 5 predictions of 2 questions: 3 match, 1 mismatch, 1 syntax_error." in err
    assert re.search(r"\d scores/s", err)
    assert "1 of 3 questions have no prediction" in err


def test_a_failed_gold_carries_no_reward_and_ends_with_3(capsys, monkeypatch, shop):
    lines = [{"question_id": 2, "sql": "SELECT 1"}, {"question_id": 0, "sql": "SELECT 2"}]
    code, out, err = run_score(capsys, monkeypatch, shop, lines, "--json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 3
    assert (first["reward"], first["outcome"]) == (None, "gold_failed")
    assert second["outcome"] == "match"
    assert "No reward for 1 of them" in err


def test_the_table_shows_messages_and_no_control_characters(capsys, monkeypatch, shop):
    lines = [{"question_id": 0, "sql": "SELECT [/bold]\u001b[31m FROM item"}]
    code, out, _ = run_score(capsys, monkeypatch, shop, lines)
    assert code == 0
    assert "message" in out
    assert "\u001b" not in out


def test_no_prediction_at_all(capsys, monkeypatch, shop):
    code, out, err = run_score(capsys, monkeypatch, shop, [], "--json")
    assert (code, out) == (0, "")
    assert "3 of 3 questions have no prediction" in err


def test_a_line_is_printed_as_soon_as_all_before_it_are_known(capsys, monkeypatch, shop):
    has_line = threading.Event()

    class Stdout(io.StringIO):
        def flush(self) -> None:
            if "\n" in self.getvalue():
                has_line.set()

    class SlowScorer:
        """Knows the verdict of question 1 only after a line has been printed."""

        def __init__(self, *_, **__) -> None:
            pass

        def score(self, request):
            in_time = request.question_id == "0" or has_line.wait(30)
            score = Score(outcome=Outcome.MATCH, reward=float(in_time), seconds=0.0, message="", sql="")
            return (score,) * len(request.candidates)

        def abandon(self) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr("floe.reward_service.scorer_pool.Scorer", SlowScorer)
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    lines = [{"question_id": question, "sql": "SELECT 2"} for question in (0, 1, 0)]
    assert run_score(capsys, monkeypatch, shop, lines, "--json", "--workers", 2)[0] == 0
    results = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [(result["question_id"], result["reward"]) for result in results] == [(0, 1.0), (1, 1.0), (0, 1.0)]


@pytest.mark.parametrize("options", [("--json",), pytest.param((), marks=pytest.mark.heavy)])
def test_a_reader_that_goes_ends_it_quietly(shop, options):
    line = json.dumps({"question_id": 0, "sql": "SELECT 2"}) + "\n"
    (shop / "predictions.jsonl").write_text(2000 * line)  # their verdicts are more than a pipe holds
    named = {"questions": "questions.json", "databases": "databases", "predictions": "predictions.jsonl"}
    files = [f"--{option}={shop / name}" for option, name in named.items()]
    command = [sys.executable, "-m", "floe.cluster.cli", "score", *files, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_of_a_long_input_goes_to_a_terminal_alone(capsys, monkeypatch, shop, is_terminal):
    stderr = io.StringIO()
    stderr.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    code, out, _ = run_score(capsys, monkeypatch, shop, [{"question_id": 0, "sql": "SELECT 2"}] * 100, "--json")
    assert code == 0
    assert [json.loads(line)["outcome"] for line in out.splitlines()] == ["match"] * 100
    assert ("100%" in stderr.getvalue()) == is_terminal
    assert stderr.getvalue().startswith("Scored 100 predictions") != is_terminal


RIGHT, WRONG = "SELECT 2", "SELECT 3"
FORMS = {
    "null": '{"question_id": 0, "sql": "SELECT 2"}\n{"question_id": 1, "sql": null}\n',
    "array of objects": json.dumps([{"question_id": 0, "sql": RIGHT}, {"question_id": 1, "completion": None}]),
    "array of SQL": json.dumps([RIGHT, None, WRONG]),
    "BIRD's": json.dumps({"0": f"{RIGHT}{BIRD_SEPARATOR}shop", "1": None}),
    "Spider's": f"{RIGHT}\tshop\n\n{WRONG}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_predictions_come_in_the_forms_of_the_benchmarks_too(capsys, monkeypatch, shop, form):
    _, out, err = run_score(capsys, monkeypatch, shop, FORMS[form].splitlines(), "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["outcome"] for line in lines[:2]] == ["match", "no_sql"], err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"7": "SELECT 1"}', "the entry '7' is no number of a question"),
        ('{"0": 5}', "the entry '0' is no text"),
        ("SELECT 1", "has 1 predictions without ids for 3 questions"),
        ('["SELECT 1"]', "has 1 predictions without ids for 3 questions"),
        ('[{"sql": "SELECT 1"}]', "entry 1 has no question_id"),
    ],
)
def test_a_form_that_does_not_fit_is_said(capsys, monkeypatch, shop, text, part):
    code, out, err = run_score(capsys, monkeypatch, shop, [text], "--json")
    assert (code, out) == (2, "") and part in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "options", "part"),
    [
        ({"question_id": 9, "sql": "SELECT 1"}, (), "line 2 has the question_id 9, which is not in"),
        ({"sql": "SELECT 1"}, (), "line 2 has no question_id"),
        ({"question_id": True, "sql": "SELECT 1"}, (), "line 2 has no question_id"),
        ({"question_id": 0}, (), "line 2 must hold exactly one"),
        ({"question_id": 0, "sql": 7}, (), "line 2 must hold exactly one"),
        ({"question_id": 0, "sql": "SELECT 1", "completion": ""}, (), "line 2 must hold exactly one"),
        ("{oops", (), "line 2 is not JSON"),
        ("[1]", (), "line 2 is not a JSON object"),
        ("", ("--semantics", "foo"), "reward.semantics is 'foo'"),
        ("", ("--time-limit", "-1"), "reward.time_limit_s is -1"),
        ("", ("--time-limit", "inf"), "a finite number"),
        ("", ("--databases", "nowhere"), "no databases folder "),
        ("", ("--questions", "nowhere"), "nowhere: check it"),
        ("", ("--predictions", "nowhere"), "nowhere: check it"),
    ],
)
def test_unusable_input_is_one_sentence(capsys, monkeypatch, shop, line, options, part):
    lines = [{"question_id": 0, "sql": "SELECT 2"}, line]
    code, out, err = run_score(capsys, monkeypatch, shop, lines, "--json", *options)
    assert (code, out) == (2, "")
    assert part in err
    assert err.startswith("floe: ")
    assert err.count("\n") == 1


def test_a_missing_database_is_named(capsys, monkeypatch, shop):
    (shop / "databases" / "shop" / "shop.sqlite").unlink()
    code, _, err = run_score(capsys, monkeypatch, shop, [{"question_id": 0, "sql": "SELECT 2"}])
    assert code == 2
    assert "There is no database" in err
    assert "shop.sqlite" in err
