"""`floe evaluate --endpoint`: a model behind an endpoint is prompted, judged, saved and compared as a local one is."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest

import floe
from floe.cluster import cli
from floe.cluster.endpoints import client
from floe.cluster.endpoints.kept_answers import ANSWERS_FILE
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.evaluation.asked_questions import Benchmark, asked_of_archive, asked_of_questions
from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.messages import Question
from floe.cluster.operations.compare import compare
from floe.cluster.operations.evaluate import evaluated_endpoint
from floe.cluster.questions.fitting import encoder_of_run
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from tests.endpoint_server import Answer, endpoint_server, refused, said
from tests.small_archives import make_database, record, spider_folder
from tests.tiny_models import save_byte_tokenizer

KEY = "sk-the-key-that-nobody-may-write"
GOLD = "SELECT name FROM pet"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.001)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dev = [record("zoo", f"What are the names, number {number}?", GOLD) for number in range(6)]
    return spider_folder(tmp_path_factory.mktemp("data"), [], dev, ["zoo"])


def settings(tokenizer: Path, home: Path, *more: str) -> RunConfig:
    given = [f"model.path={tokenizer}", f"run.home={home}", "evaluation.num_samples=2", "evaluation.num_timings=0"]
    return load_config(None, [*given, "reward.num_workers=1", "prompt.style=compact", *more])


def test_figures_records_and_costs(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    def answer(body: dict) -> Answer:
        text = body["messages"][-1]["content"]
        if "number 1" in text:
            return refused("filtered")
        if "number 2" in text:
            return said(None, reason="length", reasoning_content="so many thoughts")
        if "number 3" in text:
            return said("I don't know.", tokens=None)
        return (
            said(f"<think>SELECT 1</think>Here:\n```sql\n{GOLD}\n```") if body["temperature"] == 0 else said("SELECT 2")
        )

    config = settings(tokenizer, tmp_path / "home")
    asked_of = partial(asked_of_archive, benchmark=Benchmark(folder=data))
    with endpoint_server(answer) as server:
        endpoint = EndpointPolicy(url=server.url, model="big", price_in=1.0, price_out=2.0)
        _, found = evaluated_endpoint(config, endpoint, asked_of, Progress(make_console(stderr=True)))
        num_asked = len(server.asked)
        _, again = evaluated_endpoint(config, endpoint, asked_of, Progress(make_console(stderr=True)))
        assert len(server.asked) - num_asked == 3  # the filtered question's alone
    by_text = {one.text: one for one in found.records}
    rights = [one.greedy.outcome.value for one in found.records]
    assert rights == ["match", "no_sql", "no_sql", "match", "match"] and len(by_text) == 5
    assert all(one.num_correct == 0 for one in found.records)
    assert by_text["What are the names, number 0?"].num_executes == 2
    (left_out,) = found.left_out
    assert "filtered" in left_out and found.num_asked == 6
    use = found.endpoint
    assert use is not None and again.endpoint is not None
    assert (use.num_answers, use.num_kept, use.num_without_counts, use.prompt_tokens) == (15, 0, 3, 120)
    assert use.cost == use.paid == pytest.approx((120 * 1 + 60 * 2) / 1e6)
    assert (again.endpoint.num_kept, again.endpoint.paid, again.endpoint.cost) == (15, 0.0, use.cost)
    assert (again.records, again.identity) == (found.records, found.identity)
    assert found.identity.model == f"big at {server.url}"


def test_the_prompts_are_those_of_a_local_policy(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    wide = [f"ALTER TABLE pet ADD COLUMN detail_{number} TEXT" for number in range(30)]
    make_database(tmp_path / "zoo" / "zoo.sqlite", wide)
    question = Question(question_id="1", database_id="zoo", text="Who is old? \ufdd0", gold_sql=(GOLD,))
    for style, num_trimmed in (("compact", 100), ("arctic", 400), ("arctic", 0)):
        roomy = settings(tokenizer, tmp_path, f"prompt.style={style}", "model.max_context_tokens=9999")
        num_whole = encoder_of_run(roomy, tokenizer, tmp_path).encoded(question).num_tokens
        sizes = (f"model.max_context_tokens={num_whole + 64 - num_trimmed}", "rollout.max_new_tokens=64")
        tight = settings(tokenizer, tmp_path, f"prompt.style={style}", *sizes)
        encoder = encoder_of_run(tight, tokenizer, tmp_path)
        rendered = encoder.text(encoder.prompt(question))
        chat = "".join(f"<|{one['role']}|>{one['content']}<|end|>" for one in encoder.messages(question))
        assert rendered.startswith(f"{chat}<|assistant|>".replace("\ufdd0", ""))
        assert encoder.sent_text(question) == rendered
        assert ("detail_29" in rendered) == (num_trimmed == 0)


def test_completions_get_the_rendered_prompt_and_end_at_the_styles_text(
    data: Path, tokenizer: Path, tmp_path: Path
) -> None:
    answer = f"thought</think><answer>```sql\n{GOLD}\n```</answer>```sql\nSELECT 2\n```<answer>SELECT 3</answer>"
    with endpoint_server(lambda _: said(answer)) as server:
        endpoint = EndpointPolicy(url=server.url, model="own", api="completions")
        config = settings(tokenizer, tmp_path, "prompt.style=tagged", "model.max_context_tokens=2048")
        asked, found = evaluated_endpoint(
            config,
            endpoint,
            partial(asked_of_archive, benchmark=Benchmark(folder=data)),
            Progress(make_console(stderr=True)),
        )
    assert set(server.paths) == {"/v1/completions"}
    prompts = {body["prompt"] for body in server.asked}
    assert prompts == {asked.encoder.text(asked.encoder.prompt(one)) for one in asked.questions}
    assert all(prompt.endswith("<|assistant|><think>") for prompt in prompts)
    assert all(one.greedy.outcome == "match" and one.num_correct == 2 for one in found.records)


def test_a_prompt_that_does_not_fit_is_wrong_and_costs_nothing(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    short = Question(question_id="s", database_id="zoo", text="Names?", gold_sql=(GOLD,))
    long = Question(question_id="l", database_id="zoo", text="Names? " * 500, gold_sql=(GOLD,))
    config = settings(tokenizer, tmp_path, "model.max_context_tokens=512", "rollout.max_new_tokens=64")
    asked_of = partial(asked_of_questions, questions=[short, long], databases_dir=data / "database")
    with endpoint_server(lambda _: said(GOLD)) as server:
        endpoint = EndpointPolicy(url=server.url, model="big")
        _, found = evaluated_endpoint(config, endpoint, asked_of, Progress(make_console(stderr=True)), tmp_path / "out")
    assert [(one.question_id, one.greedy.outcome.value) for one in found.records] == [("s", "match"), ("l", "no_sql")]
    assert len(server.asked) == 3 and (tmp_path / "out" / ANSWERS_FILE).is_file()


def evaluate(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, config: Path, *arguments: object
) -> tuple[int, str, str]:
    command = ["floe", "evaluate", "--config", config, *arguments]
    monkeypatch.setattr(sys, "argv", [str(one) for one in command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_command(
    data: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THE_KEY", KEY)
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{path: {tokenizer}}}\nevaluation: {{num_timings: 0}}\nprompt: {{style: compact}}\n")
    with endpoint_server(lambda body: said(f"-- {KEY}\n{GOLD}")) as server:
        command = partial(evaluate, capsys, monkeypatch, path)
        asks = ("--data", data, "--samples", 1, "--limit", 4)
        at = ("--endpoint", server.url, "--model", "big", "--endpoint-key-variable", "THE_KEY")
        limits = ("--endpoint-parallel", 2, "--endpoint-requests-per-minute", 600_000, "--endpoint-retries", 1)
        prices = ("--endpoint-price-in", 1, "--endpoint-price-out", 2.5)
        code, out, err = command(
            *asks, *at, *limits, *prices, "--out", tmp_path / "a", "--predictions", tmp_path / "sql"
        )
        assert code == 0, err
        assert "8 answers, 0 of them kept from before: 80 tokens in, 40 out." in out
        assert "Cost by the given prices: 0.0002 now" in out
        assert (tmp_path / "sql").read_text().count("SELECT name FROM pet") == 4
        code, out, _ = command(*asks, *at, "--json", "--out", tmp_path / "a")
        assert json.loads(out)["endpoint"]["num_kept"] == 8 and len(server.asked) == 8
        code, _, err = command("--data", data, *at, "--adapter", tmp_path)
        assert code == 2 and "--adapter and --endpoint name a policy each" in err
        code, _, err = command("--endpoint", server.url)
        assert code == 2 and "--endpoint needs the model's name there" in err
        code, _, err = command("--endpoint-price-in", 1)
        assert code == 2 and "--endpoint-price-in belongs to a model behind an endpoint" in err
        code, _, err = command(*at, "--endpoint-parallel", 0)
        assert code == 2 and "'num_parallel' of the options of --endpoint is 0" in err
        assert command(*asks, *at[:2], "--model", "other", "--out", tmp_path / "b")[0] == 0
    assert server.keys == [f"Bearer {KEY}"] * 8 + [None] * 8
    saved = read_evaluation(tmp_path / "a" / "evaluation.json")
    assert saved.endpoint is not None and saved.endpoint.num_kept == 8
    compare(tmp_path / "a", [tmp_path / "b"], True)
    assert json.loads(capsys.readouterr().out)["num_questions"] == 4
    written = [one for one in tmp_path.rglob("*") if one.is_file() and one.parent != tmp_path / "b"]
    assert len(written) >= 5 and not any(KEY.encode() in one.read_bytes() for one in written)


def test_from_python(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    overrides = {"model.path": str(tokenizer), "run.home": str(tmp_path), "evaluation.num_timings": 0}
    question = floe.Question(db_id="zoo", question="Names?", gold_sql=GOLD)
    asked = {"questions": [question], "databases": data / "database", "num_samples": 1, "overrides": overrides}
    with endpoint_server(lambda _: said(GOLD)) as server:
        found = floe.evaluate(endpoint={"url": server.url, "model": "big"}, progress=False, **asked)
        assert found.greedy.mean == 1.0 and found.saved.endpoint is not None
        with pytest.raises(UserError, match="name a policy each"):
            floe.evaluate("run", endpoint={"url": server.url, "model": "big"}, **asked)
        with pytest.raises(UserError, match="Unknown key 'key' in endpoint"):
            floe.evaluate(endpoint={"url": server.url, "model": "big", "key": "x"}, **asked)
