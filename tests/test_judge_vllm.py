"""vLLM's own OpenAI-compatible server with the embedded small model: it judges a group, and answers an evaluation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from floe.cluster.endpoints.evaluation import endpoint_evaluation
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.evaluation.saved_evaluation import read_evaluation
from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.cluster.models.model_folder import model_folder
from floe.cluster.preflight.finding import Level
from floe.cluster.preflight.judge_check import judge_checks
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer import Scorer
from tests.command_line import config, floe
from tests.endpoint_differences import asked_of, differences
from tests.score_requests import GOLD, make_database

pytestmark = [pytest.mark.engine, pytest.mark.cpu_engine, pytest.mark.long]

START_LIMIT_S, STOP_LIMIT_S = 1800.0, 300.0
NAME = "small-judge"
SERVER = "vllm.entrypoints.openai.api_server"
# The rubric is longer than the contexts that the model was made for; how well it grades is not the question.
CONTEXT = ("--max-model-len", "2048", "--hf-overrides", '{"max_position_embeddings": 2048}')
# It would fill its reply with the line breaks that JSON allows before a bracket.
NO_SPACES = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')


@pytest.fixture(scope="module")
def judge_url(other_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = load_config(Path(config("smoke.yaml")), [f"run.home={other_home}"])
    folder = model_folder(settings, other_home / "demo")
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = tmp_path_factory.mktemp("judge") / "server.log"
    command = [sys.executable, "-m", SERVER, "--model", str(folder), "--served-model-name", NAME]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    small = ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8", *CONTEXT, *NO_SPACES]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as lines:
        server = subprocess.Popen([*command, *address, *small], stdout=lines, stderr=lines, env=environment)
    try:
        await_answer(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def await_answer(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(1)
    raise AssertionError(f"vLLM's server did not come up:\n{log.read_text(errors='replace')[-4000:]}")


def test_vllms_server_grades_a_group(judge_url: str, tmp_path: Path) -> None:
    make_database(tmp_path)
    section = RewardSection(
        design="reasoning_sql", judge_url=judge_url, judge_model=NAME, judge_time_limit_s=60, judge_num_parallel=4
    )
    wrong = ["SELECT dept FROM emp", "SELECT id FROM emp", "SELECT x FROM emp", "SELECT count(*) FROM emp"]
    request = ScoreRequest(
        question_id="q",
        question="What are the names of all employees?",
        database_id="emp",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(sql=sql) for sql in (GOLD, *wrong)),
    )
    with closing(Scorer(tmp_path, section)) as scorer:
        right, *others = scorer.score(request)
    assert right.outcome is Outcome.MATCH, right.message
    assert right.reward == 8.0
    for score in others:
        assert score.terms is not None, score.message
        assert score.terms["judge"] in (0.0, 0.5, 1.0, 1.5, 2.0)
        assert score.reward == pytest.approx(sum(score.terms.values()))
    unknown = section.model_copy(update={"judge_model": "another"})
    with closing(Scorer(tmp_path, unknown)) as scorer:
        masked = scorer.score(request)
    assert {score.outcome for score in masked} == {Outcome.INFRASTRUCTURE}
    assert all(score.reward is None and "404" in score.message for score in masked)
    ((_, check),) = judge_checks(RunConfig(reward=section))
    assert check().level is Level.OK


NUM_QUESTIONS = 100
NEAR_TIE = 0.01  # nats; the server's batches, and so its sums, are others than the engine's


def test_at_vllms_server_the_greedy_answers_are_those_of_the_engine(
    judge_url: str, other_home: Path, tmp_path: Path
) -> None:
    limits = ["evaluation.num_timings=0", "rollout.max_new_tokens=24", "model.dtype=float32", "rollout.dtype=float32"]
    limits += ["evaluation.num_samples=1", f"evaluation.max_questions={NUM_QUESTIONS}"]
    out = ("--out", str(tmp_path / "local"))
    done = floe("evaluate", "--config", config("smoke.yaml"), *out, "cluster.address=local", *limits, home=other_home)
    assert done.returncode == 0, done.stderr[-4000:]
    local = read_evaluation(tmp_path / "local" / "evaluation.json")
    assert len({one.greedy.sql for one in local.records}) > NUM_QUESTIONS / 10
    settings = load_config(Path(config("smoke.yaml")), [f"run.home={other_home}", *limits])
    asked = asked_of(settings)
    for api in ("completions", "chat"):
        endpoint = EndpointPolicy.of_fields({"url": judge_url, "model": NAME, "api": api, "num_parallel": 8}, api)
        served = endpoint_evaluation(settings, asked, endpoint, Progress(make_console(stderr=True)), tmp_path / api)
        assert len(served.records) == len(local.records) == NUM_QUESTIONS
        assert served.identity.prompt_digest == local.identity.prompt_digest
        found = differences(asked, local, served, judge_url, NAME)
        for one in found:
            print(f"{api}: {one.line()}")
        assert all(one.gap is not None and abs(one.gap) < NEAR_TIE for one in found)
        assert len(found) < NUM_QUESTIONS / 10
        # The right answers are the same but for those questions.
        parted = {one.question_id for one in found}
        right = [
            {one.question_id for one in side.records if one.greedy.outcome is Outcome.MATCH} - parted
            for side in (local, served)
        ]
        assert right[0] == right[1]
        assert served.endpoint is not None and served.endpoint.num_without_counts == 0
