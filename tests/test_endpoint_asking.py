"""An endpoint that answers rightly, slowly, wrongly or not at all: what is asked, tried again, kept and said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from floe.cluster.endpoints import client
from floe.cluster.endpoints.asking import MAX_REFUSED_FIRST, Asking, ask_all
from floe.cluster.endpoints.kept_answers import ANSWERS_FILE, kept_answers
from floe.cluster.endpoints.pace import Pace
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.endpoints.protocol import Ask, BadReply, ended, message_of, reply_of
from floe.configs.errors import ConfigError, UserError
from tests.command_line import REPOSITORY
from tests.endpoint_server import Answer, endpoint_server, refused, said

KEY = "sk-the-'key'\\that-\"nobody\"-may-write"
PARTS_OF_KEY = ("sk-the", "that-", "-may-write")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "LONGEST_PAUSE_S", 0.002)


def ask(number: int = 0, *, temperature: float = 0.0, sample: int = 0) -> Ask:
    return Ask(
        question_id=f"q{number}",
        content=[{"role": "user", "content": f"question {number}"}],
        num_prompt_tokens=4,
        sample=sample,
        temperature=temperature,
        max_new_tokens=16,
        seed=None if temperature == 0 else number,
    )


def asked_at(url: str, folder: Path, asks: list[Ask], key: str = "", share: float = 0.2, **fields: object) -> Asking:
    endpoint = EndpointPolicy(url=url, model="m", **fields)
    with kept_answers(folder) as kept:
        return ask_all(endpoint, key, asks, kept, share, lambda *_: None)


def texts(asking: Asking) -> list[str]:
    return sorted(reply.text for reply in asking.replies.values())


def test_answers_come_by_question_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    with endpoint_server(lambda body: said(body["messages"][0]["content"].upper())) as server:
        asks = [ask(0), ask(1), ask(1), ask(2, temperature=0.5)]
        assert texts(asked_at(server.url, tmp_path, asks)) == ["QUESTION 0", "QUESTION 1", "QUESTION 2"]
        assert len(server.asked) == 3  # equal requests are one
        by_text = {body["messages"][0]["content"]: body for body in server.asked}
        assert by_text["question 0"]["temperature"] == 0 and "seed" not in by_text["question 0"]
        assert by_text["question 2"]["temperature"] == 0.5 and by_text["question 2"]["seed"] == 2
        assert {body["max_tokens"] for body in server.asked} == {16} and server.keys == [None] * 3
        assert set(server.paths) == {"/v1/chat/completions"}
        again = asked_at(server.url, tmp_path, [*asks, ask(3)], price_in=2.0, price_out=10.0)
        assert len(server.asked) == 4
        use = again.use(EndpointPolicy(url=server.url, model="m", price_in=2.0, price_out=10.0))
        assert (use.num_answers, use.num_kept, use.prompt_tokens, use.completion_tokens) == (4, 3, 40, 20)
        assert use.paid == pytest.approx(70e-6) and use.cost == pytest.approx(280e-6)
        other = EndpointPolicy(url=server.url, model="another")
        with kept_answers(tmp_path) as kept:
            assert not ask_all(other, "", [ask(0)], kept, 0.2, lambda *_: None).kept_keys


def test_no_more_requests_at_a_time_than_allowed(tmp_path: Path) -> None:
    two_there = threading.Barrier(2, timeout=300)

    def when_two_wait(body: dict) -> Answer:
        if body["messages"][0]["content"] != "question 0":  # which goes alone
            two_there.wait()
        return said("x")

    with endpoint_server(when_two_wait) as server:
        asked_at(server.url, tmp_path, [ask(n) for n in range(9)], num_parallel=2)
        assert server.most_at_once == 2


@pytest.mark.parametrize(
    "first",
    [
        refused("busy", 500),
        refused("slow down", 429),
        refused("", 408),
        refused("", 409),
        refused("", 425),
        Answer(503, b"<html><body>Bad <b>gateway</b></body></html>"),
        Answer(200, b"<html>"),
        Answer(200, b""),
        Answer(200, b"[]"),
        Answer(200, b"[" * 100_000),
        Answer(200, b'{"choices": []}'),
        Answer(200, b'{"choices": [{"message": {"content": 5}}]}'),
        Answer(200, b'{"choices": [{"message": {"content": [5]}}]}'),
        Answer(200, b'{"error": {"message": "the provider is down"}}'),
        Answer(200, b"{}", {"Content-Encoding": "gzip"}),
        Answer(200, b" " * (2**24 + 1)),
    ],
)
def test_a_passing_fault_is_tried_again_and_one_that_stays_is_told(first: Answer, tmp_path: Path) -> None:
    answers = [first, first, said("SELECT 1")]
    with endpoint_server(lambda _: answers.pop(0)) as server:
        assert texts(asked_at(server.url, tmp_path / "a", [ask()], num_retries=2)) == ["SELECT 1"]
    with endpoint_server(lambda _: first) as server:
        with pytest.raises(UserError, match=f"^m at {server.url} [^\n]*: correct --endpoint") as error:
            asked_at(server.url, tmp_path / "b", [ask(), ask(1)], num_retries=1)
        assert len(server.asked) == 2 and "<b>" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (refused("wrong key", 401), "wrong key: name the variable"),
        (refused("no such model", 404), "no such model: correct --endpoint"),
        (Answer(405, b"<html>not allowed</html>"), "not allowed: correct --endpoint"),
        (refused("pay first", 402), "pay first: correct"),
        (Answer(307, b"", {"Location": "https://elsewhere/v1"}), "sends on to https://elsewhere/v1"),
        (refused("try tomorrow", 429, Retry_After="86400"), "asks for a pause of 86,400 s"),
    ],
)
def test_a_fault_that_stays_ends_it_at_once(answer: Answer, remedy: str, tmp_path: Path) -> None:
    with endpoint_server(lambda _: answer) as server:
        with pytest.raises(UserError) as error:
            asked_at(server.url, tmp_path, [ask(n) for n in range(5)])
        assert remedy in str(error.value)
        assert len(server.asked) == 1


def test_an_endpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(UserError, match="can't be reached"):
            asked_at(url, tmp_path, [ask()])


def test_names_that_can_not_be_resolved_and_wrong_proxies_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="can't be reached"):
        asked_at(f"http://{'a' * 70}.invalid/v1", tmp_path, [ask()])
    monkeypatch.setenv("http_proxy", "gopher://me:sk-the@proxy")
    with pytest.raises(UserError, match="can't be used \\(ValueError\\)") as error:
        asked_at("http://api.invalid/v1", tmp_path, [ask()])
    assert "add api.invalid to no_proxy" in str(error.value) and "sk-the" not in str(error.value)


@pytest.mark.parametrize("is_dripping", [True, False])
def test_an_answer_that_does_not_end_is_given_up(is_dripping: bool, tmp_path: Path) -> None:
    held = threading.Event()

    def slow(_: dict) -> Answer:
        if not is_dripping:
            held.wait(60)
        return Answer(drip=is_dripping)

    with endpoint_server(slow) as server:
        try:
            with pytest.raises(UserError, match=r"gives no answer in 0\.2 s"):
                asked_at(server.url, tmp_path, [ask()], num_retries=0, time_limit_s=0.2)
        finally:
            held.set()


def test_all_requests_wait_as_long_as_the_server_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_s: list[float] = []
    monkeypatch.setattr(Pace, "hold", lambda self, pause_s: held_s.append(pause_s))
    answers = [refused("", 429, Retry_After="0.05"), refused("", 503, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")]
    answers += [refused("", 429, Retry_After="soon"), said("x")]
    with endpoint_server(lambda _: answers.pop(0)) as server:
        assert texts(asked_at(server.url, tmp_path, [ask()])) == ["x"]
    assert held_s == [0.05, 0.0]


def test_requests_start_at_the_distances_of_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        slept_s.append(delay_s)
        await real_sleep(0)

    async def turns(pace: Pace) -> None:
        for _ in range(3):
            await pace.turn(50)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for limits in ((10, None), (1000, 500), (None, 500)):
        slept_s.clear()
        asyncio.run(turns(Pace(*limits)))
        assert slept_s == [0, pytest.approx(6, abs=1), pytest.approx(12, abs=2)]
    slept_s.clear()
    asyncio.run(turns(Pace(None, None)))
    assert slept_s == [0, 0, 0]


def test_a_question_that_is_refused_is_left_out_and_others_go_on(tmp_path: Path) -> None:
    def answer(body: dict) -> Answer:
        return refused("the prompt is too long") if body["messages"][0]["content"] == "question 1" else said("x")

    with endpoint_server(answer) as server:
        found = asked_at(server.url, tmp_path, [ask(1), *(ask(n) for n in range(2, 8))])
        (why,) = found.failures.values()
        assert "status 400: the prompt is too long" in why and len(found.replies) == 6
    with endpoint_server(lambda _: refused("Model Not Exist")) as server:
        with pytest.raises(UserError, match="Model Not Exist: correct"):
            asked_at(server.url, tmp_path, [ask(n) for n in range(20)])
        assert len(server.asked) == MAX_REFUSED_FIRST


def test_many_failures_end_it_and_the_next_call_goes_on(tmp_path: Path) -> None:
    is_broken = threading.Event()

    def answer(body: dict) -> Answer:
        if body["messages"][0]["content"] >= "question 5":
            is_broken.set()
        return refused("out of order", 500) if is_broken.is_set() else said("x")

    asks = [ask(n) for n in range(10)]
    with endpoint_server(answer) as server:
        with pytest.raises(
            UserError, match=r"4 of 10 answers .* out of order: give the same command again .* 5 answers"
        ):
            asked_at(server.url, tmp_path, asks, num_parallel=1, num_retries=0)
        server.answer = lambda _: said("y")
        assert texts(asked_at(server.url, tmp_path, asks)) == ["x"] * 5 + ["y"] * 5


@pytest.mark.parametrize(
    ("refusal", "field", "note"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens", ""),
        (
            "Unsupported value: 'temperature' does not support 0. Only the default (1) is supported.",
            "temperature",
            "own",
        ),
        ('[{"type":"extra_forbidden","loc":["body","seed"]}]', "seed", "same samples"),
    ],
)
def test_a_setting_that_a_model_does_not_take_is_left_out_and_said(
    refusal: str, field: str, note: str, tmp_path: Path
) -> None:
    with endpoint_server(lambda body: refused(refusal) if field in body else said("x")) as server:
        endpoint = EndpointPolicy(url=server.url, model="m")
        asks = [ask(n, temperature=0.5) for n in range(4)]
        notes = asked_at(server.url, tmp_path, asks).use(endpoint).notes
        assert len(server.asked) == 5  # the refusal costs one request
        assert len(notes) == bool(note) and all(note in one for one in notes)
        assert asked_at(server.url, tmp_path, asks).use(endpoint).notes == notes  # known of kept answers too
        assert len(server.asked) == 5
        if field == "max_tokens":
            assert server.asked[-1]["max_completion_tokens"] == 16
    with endpoint_server(lambda _: refused("'max_tokens' is too large: 16")) as server:
        with pytest.raises(UserError, match="too large"):
            asked_at(server.url, tmp_path / "b", asks)
        assert all("max_tokens" in body for body in server.asked)


def test_the_key_is_sent_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    echo = f"Incorrect API key provided: {KEY}"
    for answer in (refused(echo, 401), refused(echo, 500), refused(echo), Answer(200, echo.encode())):
        with endpoint_server(lambda _, answer=answer: answer) as server:
            endpoint = EndpointPolicy(url=server.url, model="m", key_variable="THE_KEY")
            with pytest.raises(UserError) as error:
                asked_at(server.url, tmp_path, [ask()], endpoint.key(), num_retries=0)
            assert not any(part in str(error.value) for part in PARTS_OF_KEY) and "[the key]" in str(error.value)
            assert server.keys[0] == f"Bearer {KEY}"
    with endpoint_server(lambda _: said(f"-- {KEY}\nSELECT 1")) as server:
        assert texts(asked_at(server.url, tmp_path, [ask()], KEY)) == ["-- [the key]\nSELECT 1"]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(part.encode() in one for one in written for part in PARTS_OF_KEY)
    assert not any(part in "".join(capfd.readouterr()) for part in PARTS_OF_KEY)


def test_the_key_does_not_follow_a_redirect(tmp_path: Path) -> None:
    with endpoint_server(lambda _: said("x")) as other:
        moved = Answer(308, b"", {"Location": f"{other.url}/chat/completions"})
        with endpoint_server(lambda _: moved) as server, pytest.raises(UserError, match="sends on to"):
            asked_at(server.url, tmp_path, [ask()], KEY)
        assert not other.asked


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"url": "ftp://x"}, "'url' of the file must be an address as"),
        ({"url": "x.com/v1"}, "'url' of the file must be an address as"),
        ({"url": "https://me:sk-the@x.com"}, "without user, password"),
        ({"url": "https://x.com/v1?key=sk-the"}, "without user, password"),
        ({"url": "http://x:99999/v1"}, "'url' of the file must be an address as"),
        ({"key_variable": "sk-the-key"}, "'key_variable' of the file must be the name of an environment variable"),
        ({"num_parallel": 0}, "'num_parallel' of the file is 0, but must be at least 1: correct it."),
        ({"price_in": "x"}, "'price_in' of the file is 'x', but must be a number"),
        ({"api": "responses"}, "'api' of the file is 'responses', but must be 'chat' or 'completions'"),
        ({"key": "x"}, "Unknown key 'key' in the file: known are url"),
        ({"model": ""}, "'model' of the file is ''"),
    ],
)
def test_a_wrong_description_is_told_without_a_key(fields: dict, wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        EndpointPolicy.of_fields({"url": "http://x/v1", "model": "m"} | fields, "the file")
    assert wrong in str(error.value) and "sk-the" not in str(error.value)


def test_the_key_of_its_own_host_goes_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert EndpointPolicy(url="https://api.openai.com/v1/", model="m").key() == KEY
    assert EndpointPolicy(url="https://api.openai.com.evil.org/v1", model="m").key() == ""
    assert EndpointPolicy(url="https://x/v1/chat/completions", model="m").url == "https://x/v1"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY, which is not set: export it"):
        EndpointPolicy(url="https://api.openai.com/v1", model="m").key()


def test_what_models_write_is_an_answer() -> None:
    thought = said(None, reason="length", reasoning_content="long").body
    assert (reply_of(thought, "chat").text, reply_of(thought, "chat").is_truncated) == ("", True)
    parts = said([{"type": "thinking", "thinking": []}, {"type": "text", "text": "SELECT 1"}]).body
    assert reply_of(parts, "chat").text == "SELECT 1"
    assert reply_of(said("\ud800\u0000").body, "chat").text == "?\u0000"
    assert reply_of(said("x", tokens=None).body, "completions").prompt_tokens is None
    odd = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1}}).encode()
    assert reply_of(odd, "chat").prompt_tokens is None
    with pytest.raises(BadReply):
        reply_of(odd, "completions")
    assert ended("a</answer>b</answer>", ("</answer>", "zz")) == "a</answer>"
    assert message_of(b'{"detail": [{"msg": "x"}]}') == '{"detail": [{"msg": "x"}]}'


def test_a_torn_and_a_damaged_line_are_asked_for_again(tmp_path: Path) -> None:
    with endpoint_server(lambda _: said("x")) as server:
        asked_at(server.url, tmp_path, [ask(n) for n in range(4)], num_parallel=1)
        path = tmp_path / ANSWERS_FILE
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + b"\x00\xff{\n" + lines[2] + lines[3][:-9])
        with kept_answers(tmp_path) as kept:
            assert kept.num_damaged == 1  # the torn line is none: it was being written
        path.write_bytes(lines[0] + b"\x00\xff{\n" + lines[2] + lines[3][:-9])
        found = asked_at(server.url, tmp_path, [ask(n) for n in range(4)])
        assert len(found.kept_keys) == 2 and len(found.replies) == 4
        assert len(asked_at(server.url, tmp_path, [ask(n) for n in range(4)]).kept_keys) == 4


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    refusal = pytest.raises(UserError, match="Another evaluation is asking")
    with kept_answers(tmp_path), refusal, kept_answers(tmp_path):
        pass
    with kept_answers(tmp_path):
        pass


KILLED = """
import sys
from pathlib import Path
from floe.cluster.endpoints.asking import ask_all
from floe.cluster.endpoints.kept_answers import kept_answers
from floe.cluster.endpoints.policy import EndpointPolicy
from tests.test_endpoint_asking import ask
with kept_answers(Path(sys.argv[2])) as kept:
    endpoint = EndpointPolicy(url=sys.argv[1], model="m", num_parallel=3)
    ask_all(endpoint, "", [ask(n) for n in range(12)], kept, 0.2, lambda *_: None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_nothing_is_paid_twice(number: signal.Signals, tmp_path: Path) -> None:
    driver: list[subprocess.Popen] = []

    def answer(body: dict) -> Answer:
        if len(server.asked) > 7 and driver[0].poll() is None:
            os.kill(driver[0].pid, number)
        return said("x")

    with endpoint_server(answer) as server:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path)]
        driver.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY))
        assert driver[0].wait() == -number
        num_kept = (tmp_path / ANSWERS_FILE).read_bytes().count(b"\n")
        assert 5 <= num_kept < 12
        num_before = len(server.asked)
        found = asked_at(server.url, tmp_path, [ask(n) for n in range(12)])
        assert len(found.replies) == 12 and len(found.kept_keys) == num_kept
        assert len(server.asked) - num_before == 12 - num_kept
