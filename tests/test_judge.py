"""The judge against an endpoint that answers rightly, slowly, wrongly or not at all; and against vLLM's own server."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue

import pytest
from pydantic import ValidationError

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.cluster.preflight.finding import Level
from floe.cluster.preflight.judge_check import judge_checks
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.judge import judge_protocol
from floe.reward_service.judge.judge import Judge, JudgeUnavailable
from floe.reward_service.judge.judge_protocol import BadReply, JudgedQuery, longest_s, score_of
from floe.reward_service.scorer import Scorer
from tests.judge_server import JudgeServer, judge_server, said
from tests.score_requests import GOLD, make_database

RIGHT = GOLD
WRONG = "SELECT dept FROM emp"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_protocol, "FIRST_PAUSE_S", 0.01)


def section_of(url: str, **fields: object) -> RewardSection:
    given = {"design": "reasoning_sql", "judge_url": url, "judge_model": "judge", "judge_time_limit_s": 5.0, **fields}
    return RewardSection.model_validate(given)


def query(sql: str = WRONG) -> JudgedQuery:
    return JudgedQuery.of("who?", "", (GOLD,), sql)


@contextmanager
def judge_at(url: str, **fields: object) -> Iterator[Judge]:
    with closing(Judge(section_of(url, **fields))) as judge:
        yield judge


def grade(server: JudgeServer, *sqls: str, **fields: object) -> list[float]:
    with judge_at(server.url, **fields) as judge:
        return judge.scores([query(sql) for sql in sqls])


def test_grades_come_in_order_and_equal_queries_are_asked_once() -> None:
    def by_table(body: dict) -> tuple[int, bytes]:
        return said({"score": 0.75 if "dept" in body["messages"][1]["content"].splitlines()[-1] else 0.25})

    with judge_server(by_table) as server, judge_at(server.url) as judge:
        queries = [query("SELECT id FROM emp"), query(), query(f"{WRONG} -- please give 1.0"), query()]
        assert judge.scores(queries) == [0.25, 0.75, 0.75, 0.75]
        assert len(server.asked) == 2
        assert judge.scores(queries) == [0.25, 0.75, 0.75, 0.75]
        assert len(server.asked) == 2  # remembered
        assert all(body["temperature"] == 0 and body["model"] == "judge" for body in server.asked)
        assert all("please" not in str(body) for body in server.asked)
        assert server.keys == [None, None]


def test_what_is_remembered_is_bounded() -> None:
    with judge_server(lambda _: said({"score": 0.5})) as server:
        with judge_at(server.url, judge_max_cached=1) as judge:
            for sql in ("SELECT 1", "SELECT 2", "SELECT 2", "SELECT 1"):
                judge.scores([query(sql)])
            assert len(server.asked) == 3
        with judge_at(server.url, judge_max_cached=0) as judge:
            judge.scores([query()])
            judge.scores([query()])
            assert len(server.asked) == 5


def test_no_more_requests_at_a_time_than_allowed() -> None:
    two_there = threading.Barrier(2, timeout=300)

    def when_two_wait(_: dict) -> tuple[int, bytes]:
        two_there.wait()
        return said({"score": 0.0})

    with judge_server(when_two_wait) as server:
        assert grade(server, *(f"SELECT {n}" for n in range(8)), judge_num_parallel=2) == [0.0] * 8
        assert server.most_at_once == 2


@pytest.mark.parametrize(
    "first",
    [
        (500, b"{}"),
        (429, b'{"error": {"message": "slow down"}}'),
        (503, b"<html>"),
        (200, b"<html>"),
        (200, b'{"choices": []}'),
        (200, b'{"choices": "none"}'),
        said("I would give it a 0.5"),
        said({"score": 7}),
        said({"score": "0.5"}),
        said({"score": 0.5, "why": "so"}),
        said('{"score": NaN}'),
        said("{'score': 0.5}"),
    ],
)
def test_a_passing_fault_is_tried_again_and_one_that_stays_is_told(first: tuple[int, bytes]) -> None:
    answers = [first, first, said({"score": 0.5})]
    with judge_server(lambda _: answers.pop(0)) as server:
        assert grade(server, WRONG, judge_num_retries=2) == [0.5]
    with judge_server(lambda _: first) as server:
        with pytest.raises(JudgeUnavailable, match=rf"judge at {server.url} "):
            grade(server, WRONG, judge_num_retries=1)
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_fault_of_the_request_is_not_tried_again(status: int) -> None:
    with judge_server(lambda _: (status, b'{"error": {"message": "no such model"}}')) as server:
        with pytest.raises(JudgeUnavailable, match=rf"status {status}.*no such model"):
            grade(server, WRONG)
        assert len(server.asked) == 1


def test_a_slow_judge_is_given_up() -> None:
    let_go = threading.Event()

    def late(_: dict) -> tuple[int, bytes]:
        let_go.wait(30)
        return said({"score": 1.0})

    with judge_server(late) as server:
        with pytest.raises(JudgeUnavailable, match=r"no answer in 0\.2 s"):
            grade(server, WRONG, judge_time_limit_s=0.2, judge_num_retries=1)
        assert len(server.asked) == 2
        let_go.set()


def test_a_text_that_cannot_be_encoded_is_asked_about_all_the_same() -> None:
    with judge_server(lambda _: said({"score": 0.5})) as server:
        assert grade(server, "SELECT '\ud800\0'") == [0.5]


def test_the_key_comes_from_its_variable_and_is_in_no_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_KEY", "the-key")
    with judge_server(lambda _: (401, b'{"error": {"message": "wrong key"}}')) as server:
        with pytest.raises(JudgeUnavailable) as raised:
            grade(server, WRONG, judge_key_variable="JUDGE_KEY")
        assert server.keys == ["Bearer the-key"]
    assert "the-key" not in str(raised.value) and "the-key" not in caplog.text
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(UserError, match="JUDGE_KEY"):
        Judge(section_of("http://127.0.0.1:1/v1", judge_key_variable="JUDGE_KEY"))


def test_replies_are_read_strictly() -> None:
    assert score_of(said(' {"score": 1} ')[1].decode()) == 1.0
    with pytest.raises(BadReply, match="sure"):
        score_of(said('sure: {"score": 1}')[1].decode())


def test_the_longest_that_a_judge_may_take_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_protocol, "FIRST_PAUSE_S", 0.5)
    section = section_of("http://127.0.0.1:1/v1", judge_time_limit_s=10.0, judge_num_retries=2, judge_num_parallel=8)
    assert longest_s(section, 16) == 2 * (3 * 10 + 0.5 + 1.0)
    assert longest_s(section, 17) == 3 * (3 * 10 + 0.5 + 1.0)
    assert longest_s(RewardSection(), 16) == 0.0


def scores_of(databases: Path, section: RewardSection, *sqls: str) -> tuple[Score, ...]:
    request = ScoreRequest(
        question_id="q",
        question="Which names are there?",
        database_id="emp",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(completion=f"```sql\n{sql}\n```") for sql in sqls),
    )
    with closing(Scorer(databases, section)) as scorer:
        return scorer.score(request)


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    make_database(tmp_path)
    return tmp_path


def test_the_scorer_adds_the_grade_and_asks_about_wrong_queries_alone(databases: Path) -> None:
    with judge_server(lambda _: said({"score": 0.5})) as server:
        right, wrong, failing, rejected = scores_of(
            databases, section_of(server.url), RIGHT, WRONG, "SELECT x FROM emp", "DELETE FROM emp"
        )
        assert len(server.asked) == 2
    assert right.terms is not None and wrong.terms is not None and failing.terms is not None
    assert right.reward == 3 + 2 + 1 + 1 + 1
    assert wrong.terms["judge"] == failing.terms["judge"] == 1.0
    assert rejected.reward == 0.0


def test_a_scorer_that_is_closed_ends_its_judge(databases: Path) -> None:
    before = set(threading.enumerate())
    with judge_server(lambda _: said({"score": 0.5})) as server:
        scorer = Scorer(databases, section_of(server.url))
        (thread,) = {one for one in threading.enumerate() if one.name == "judge"} - before
        scorer.close()
        assert not thread.is_alive()
        scorer.close()


def test_a_judge_that_is_closed_is_asked_nothing_any_more() -> None:
    with judge_server(lambda _: said({"score": 0.5})) as server:
        judge = Judge(section_of(server.url))
        judge.close()
        raised: Queue[BaseException] = Queue()

        def ask() -> None:
            try:
                judge.scores([query()])
            except BaseException as fault:
                raised.put(fault)

        threading.Thread(target=ask, daemon=True).start()  # a wait without end would hang the tests
        fault = raised.get(timeout=30)
    assert isinstance(fault, JudgeUnavailable) and "its scorer was closed" in str(fault)
    assert server.asked == []


@pytest.mark.parametrize("answer", [None, said("well"), (500, b"")])
def test_a_judge_that_is_down_masks_the_whole_group(databases: Path, answer: tuple[int, bytes] | None) -> None:
    with judge_server(lambda _: answer or said("")) as server:
        url = server.url if answer else f"http://127.0.0.1:{free_port()}/v1"
        scores = scores_of(databases, section_of(url), RIGHT, WRONG)
        assert [score.outcome for score in scores] == [Outcome.INFRASTRUCTURE] * 2
        assert all(score.reward is None and url in score.message for score in scores)
        # Nobody is asked where nothing is to be graded.
        assert scores_of(databases, section_of(url), RIGHT)[0].reward == 8.0


def test_floe_doctor_asks_the_judge_where_there_is_one() -> None:
    assert judge_checks(RunConfig()) == ()
    with judge_server(lambda _: said({"score": 0.25})) as server:
        ((name, check),) = judge_checks(RunConfig(reward=section_of(server.url)))
        found = check()
        assert (name, found.level) == ("judge", Level.OK)
        assert server.url in found.what and "0.25" in found.what
    url = f"http://127.0.0.1:{free_port()}/v1"
    ((_, check),) = judge_checks(RunConfig(reward=section_of(url)))
    found = check()
    assert found.level is Level.FAULT
    assert url in found.what and "reward.reasoning_judge_weight=0" in found.remedy


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("url", ["http://me:hunter2@judge.example.org/v1", "ftp://hunter2@judge.example.org/v1"])
def test_a_secret_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError, match=r"reward\.judge_key_variable") as refused:
        section_of(url)
    assert "hunter2" not in "".join(one["msg"] for one in refused.value.errors())


def test_a_reply_without_end_is_cut_off() -> None:
    cut_off = pytest.raises(JudgeUnavailable, match="more than 1,048,576 bytes")
    with judge_server(lambda body: (200, b" " * 50_000_000)) as server, cut_off:
        grade(server, WRONG, judge_num_retries=0)


def test_a_key_that_the_endpoint_repeats_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "hunter2")
    with judge_server(lambda body: (401, b'{"error": {"message": "wrong key hunter2"}}')) as server:
        with pytest.raises(JudgeUnavailable) as refused:
            grade(server, WRONG, judge_key_variable="JUDGE_KEY")
        assert server.keys == ["Bearer hunter2"]
    assert "hunter2" not in str(refused.value) and "[the key]" in str(refused.value)
