"""Prompt styles of a user's own: what they show, what they teach, how their SQL is taken, and what is refused."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest

from floe.actors.prompting.prompt_end import with_answer_start
from floe.actors.prompting.prompts import STYLES
from floe.actors.prompting.styles import style_of
from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.cluster.plugins.checks import check_plugins
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from floe.reward_service.scorer import Scorer
from floe.reward_service.sql_text.own_extraction import NoAnswer, extraction_of
from tests.score_requests import make_database

MODULE = """
import json
from floe.plugins import TableSchema, created_tables

class Json:
    prefill = "{"
    stop_texts = ("}",)

    def __init__(self, key="sql"):
        self.key = key

    def messages(self, question, evidence, schema):
        return [{"role": "user", "content": f"{schema}\\n{evidence}\\n{question}\\nAnswer as JSON with {self.key}."}]

    def answer(self, sql, reads):
        return json.dumps({self.key: sql}, ensure_ascii=False)[1:]

    def sql_of(self, answer):
        return json.loads(answer)[self.key]

def with_values(key="sql"):
    style = Json(key)
    style.shows_values = True
    return style

class Plain:
    def messages(self, question, evidence, schema):
        return [{"role": "user", "content": f"{schema} {question}"}]

    def answer(self, sql, reads):
        return sql

class Fenced(Plain):
    def answer(self, sql, reads):
        return f"{reads}\\n```sql\\n{sql}\\n```"

class NoQuestion(Plain):
    def messages(self, question, evidence, schema):
        return [{"role": "user", "content": schema}]

class NotLast(Plain):
    def messages(self, question, evidence, schema):
        return [{"role": "system", "content": question}]

class Moody(Plain):
    calls = 0

    def messages(self, question, evidence, schema):
        self.calls += 1
        return [{"role": "user", "content": f"{question} {self.calls}"}]

class Mute(Plain):
    def answer(self, sql, reads):
        return "I can't say"

class StopsEarly(Json):
    stop_texts = (":",)

class Raises(Plain):
    def schema(self, tables):
        return tables[0].title

class LeavesAtOnce(Plain):
    def messages(self, question, evidence, schema):
        raise SystemExit("no licence")

class NotMade(Plain):
    def __init__(self):
        raise SystemExit("no licence")

class NoText(Plain):
    def answer(self, sql, reads):
        return 5

class NoAnswer:
    def messages(self, question, evidence, schema):
        return []

class OddStop(Plain):
    stop_texts = "</a>"

class EmptyStop(Plain):
    stop_texts = [""]

class Leaves(Plain):
    def sql_of(self, answer):
        if "leave" in answer:
            raise SystemExit(3)
        return answer

class Number(Plain):
    def sql_of(self, answer):
        return 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "their_style.py").write_text(MODULE.replace("\\\\n", "\\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("their_style", None)


def configured(name: str, *overrides: str):
    return load_config(None, [f"prompt.style=their_style:{name}", *overrides])


def the_style(name: str, *overrides: str):
    config = configured(name, *overrides)
    return style_of(config.prompt, config.run.plugin_folder)


@pytest.mark.parametrize("name", ["Json", "with_values", "Fenced", "Plain"])
def test_a_style_of_ones_own_is_taken(folder, name):
    assert check_plugins(configured(name)) == [f"prompt.style their_style:{name} from {folder}/their_style.py"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoQuestion", "leave out the question"),
        ("NotLast", "the last is the user's"),
        ("Moody", "differ between two calls"),
        ("Mute", "from which no SQL is taken"),
        ("StopsEarly", "JSONDecodeError"),
        ("Raises", "their_style.py:"),
        ("LeavesAtOnce", "whose messages(...) raised SystemExit (no licence)"),
        ("NotMade", "NotMade refuses prompt.arguments {} (SystemExit: no licence"),
        ("NoText", "returned 5: return a text"),
        ("NoAnswer", "it has no answer"),
        ("OddStop", "stop_texts is '</a>': give a tuple or list"),
        ("EmptyStop", "give texts that are not empty"),
        ("Number", "returned int in place of text"),
    ],
)
def test_what_is_no_style_is_refused_in_one_sentence(folder, name, said):
    with pytest.raises(ConfigError) as refused:
        check_plugins(configured(name))
    text = str(refused.value)
    assert said in text and text.startswith("prompt.style is ") and text.endswith(".") and "\n" not in text


def test_values_need_a_style_that_shows_them(folder):
    with pytest.raises(ConfigError, match=r"shows no values, but prompt\.example_values is 3"):
        check_plugins(configured("Json", "prompt.example_values=3"))
    assert check_plugins(configured("with_values", "prompt.example_values=3"))


def test_arguments_of_a_built_in_style_are_refused():
    with pytest.raises(ConfigError, match=r"prompt\.arguments has 'key', but prompt\.style is 'compact'"):
        load_config(None, ["prompt.arguments.key=x"])


def test_a_schema_left_out_is_that_of_the_ready_styles(folder):
    from floe.cluster.plugins.style_check import TABLES

    assert the_style("Json").schema(TABLES) == STYLES["compact"].schema(TABLES)
    assert the_style("with_values").schema(TABLES) == STYLES["arctic"].schema(TABLES)


@pytest.mark.parametrize("end", ["<think>", "<think>\n", "<think>\n\n</think>\n\n"])
def test_a_template_with_thoughts_has_them_closed_before_the_prefill(end):
    found = with_answer_start(f"assistant\n{end}", "{")
    assert (found.text, found.answer_start) == ("assistant\n<think>\n\n</think>\n\n{", "{")


def test_the_scorer_takes_sql_as_the_style_does_and_no_completion_is_a_fault(folder):
    make_database(folder, "d", script="CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1);")
    config = configured("Json")
    completions = ('{"sql": "SELECT x FROM t;"}', '{"sql": 5}', '{"sql": "SELECT', "SELECT x FROM t", '{"sql": ""}')
    request = ScoreRequest(
        question_id="1",
        database_id="d",
        question="",
        evidence="",
        gold_sql=("SELECT x FROM t",),
        candidates=tuple(Candidate(completion=one) for one in completions),
    )
    with closing(Scorer(folder, config.reward, plugin_folder=folder, prompt=config.prompt)) as scorer:
        scores = scorer.score(request)
    assert [one.outcome for one in scores] == [Outcome.MATCH] + [Outcome.NO_SQL] * 4
    assert [one.reward for one in scores] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert scores[0].sql == "SELECT x FROM t"
    assert scores[1].message.endswith("no SQL: sql_of of their_style:Json returned int in place of text")
    line = 1 + MODULE[: MODULE.index("json.loads")].count("\n")
    assert "raised JSONDecodeError" in scores[2].message
    assert scores[2].message.endswith(f"at {folder}/their_style.py:{line}")  # and no line of json's
    assert scores[4].message == "the completion holds no SQL"


def test_a_style_without_an_extraction_has_floes(folder):
    config = configured("Fenced")
    assert extraction_of(config.prompt, folder)("Some prose.\n```sql\nSELECT 1;\n```") == "SELECT 1"
    with pytest.raises(NoAnswer, match=r"raised SystemExit \(3\)"):
        extraction_of(configured("Leaves").prompt, folder)("leave")
    with pytest.raises(NoAnswer, match="KeyError"):
        extraction_of(configured("Json").prompt, folder)(json.dumps({"other": 1}))


def test_a_fault_in_the_middle_of_a_run_names_style_and_line(folder):
    style = the_style("Plain")
    style._style.messages = lambda question, evidence, schema: schema[1_000]
    with pytest.raises(UserError, match=r"^prompt\.style is 'their_style:Plain', whose messages.*IndexError.*:\d+"):
        style.messages("Who?", "", "t(a)")
