"""A reward from outside floe: scored with, held to its promises, and the example package of docs/ installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from floe.cluster.messages import Candidate, Outcome, Score, ScoreRequest
from floe.configs.errors import ConfigError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.scorer import Scorer
from tests.command_line import REPOSITORY, floe
from tests.score_requests import make_database

PACKAGE = REPOSITORY / "docs" / "examples" / "floe_tidy_sql"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
LIMIT_S = 900
GOLD = "SELECT name FROM emp WHERE dept = 'it'"
ANSWERS = (GOLD, "SELECT * FROM emp", "SELECT wages FROM emp", "no SQL at all; DELETE FROM emp")

MODULE = """
import json
import sys

from floe.plugins import GoldUnusable, GroupUnscorable, Outcome, Reward, execution_reward

def plain(group):
    return [execution_reward(one) for one in group.candidates]

def with_terms(group, weight=1.0):
    values = [execution_reward(one) for one in group.candidates]
    return [Reward(weight * value, {"execution": value}, "a note") for value in values]

def whole_numbers(group):
    return [int(one.outcome is Outcome.MATCH) for one in group.candidates]

def fails(group):
    return [1 / len(group.question) for _ in group.candidates]

def fails_for_some(group):
    return [{"SELECT * FROM emp": None}.get(one.sql, 1) + 0 for one in group.candidates]

def compares(group):
    if len(group.candidates) == 1:
        raise GroupUnscorable("there is nothing to compare")
    return [None + 1 for _ in group.candidates]

def too_few(group):
    return [1.0]

def not_finite(group):
    return [float("nan") for _ in group.candidates]

def texts(group):
    return ["1.0" for _ in group.candidates]

def nothing(group):
    return None

def odd_term(group):
    return [Reward(1.0, {"star penalty": 1.0}) for _ in group.candidates]

def exits(group):
    sys.exit("no licence")

def reads_json(group):
    return [json.loads("{") for _ in group.candidates]

def many_digits(group):
    return [10**400 for _ in group.candidates]

def no_terms(group):
    return [Reward(1.0, None) for _ in group.candidates]

def unreadable_note(group):
    return [Reward(1.0, {}, Unreadable()) for _ in group.candidates]

class Unreadable:
    def __str__(self):
        raise ValueError("no text")

def adds_a_term(group):
    rewards = [Reward(1.0) for _ in group.candidates]
    rewards[0].terms["star"] = 0.5
    return rewards

def useless_gold(group):
    raise GoldUnusable("the gold has no plan")

class ReadsTextAlone:
    executes = False

    def __call__(self, group):
        return [float(len(one.sql or "")) for one in group.candidates]

class SetsOfRows:
    semantics = "bird"

    def __call__(self, group):
        return [float(one.outcome is Outcome.MATCH) for one in group.candidates]
"""


@pytest.fixture
def own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of rewards and a database."""
    make_database(tmp_path, "emp")
    (tmp_path / "own_rewards.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_rewards", None)


def scored(folder: Path, name: str, answers: Sequence[str] = ANSWERS, **settings) -> tuple[Score, ...]:
    section = RewardSection(design=f"own_rewards:{name}", **settings)
    request = ScoreRequest(
        question_id="q", database_id="emp", gold_sql=(GOLD,), candidates=tuple(Candidate(sql=one) for one in answers)
    )
    with closing(Scorer(folder, section, plugin_folder=folder)) as scorer:
        return scorer.score(request)


def test_numbers_and_rewards_are_what_a_candidate_gets(own_rewards):
    assert [one.reward for one in scored(own_rewards, "plain")] == [1.0, 0.1, 0.0, 0.0]
    assert [one.reward for one in scored(own_rewards, "whole_numbers")] == [1.0, 0.0, 0.0, 0.0]
    first = scored(own_rewards, "with_terms", arguments={"weight": 3.0})[0]
    assert (first.reward, first.terms, first.message) == (3.0, {"execution": 1.0}, "a note")


# What is wrong with a plug-in carries no reward, and so is never one of 0.
@pytest.mark.parametrize(
    ("name", "outcome", "said"),
    [
        ("fails", Outcome.INFRASTRUCTURE, "ZeroDivisionError"),
        ("too_few", Outcome.INFRASTRUCTURE, "1 values for 4 candidates"),
        ("not_finite", Outcome.INFRASTRUCTURE, "nan"),
        ("texts", Outcome.INFRASTRUCTURE, "'1.0'"),
        ("nothing", Outcome.INFRASTRUCTURE, "NoneType"),
        ("exits", Outcome.INFRASTRUCTURE, "SystemExit (no licence)"),
        ("many_digits", Outcome.INFRASTRUCTURE, "give finite numbers"),
        ("no_terms", Outcome.INFRASTRUCTURE, "terms that are a NoneType"),
        ("unreadable_note", Outcome.INFRASTRUCTURE, "ValueError (no text)"),
        ("adds_a_term", Outcome.INFRASTRUCTURE, "does not support item assignment"),
        ("odd_term", Outcome.INFRASTRUCTURE, "'star penalty'"),
        ("useless_gold", Outcome.GOLD_FAILED, "the gold has no plan"),
    ],
)
def test_what_a_plugin_does_wrong_carries_no_reward(own_rewards, name, outcome, said):
    scores = scored(own_rewards, name)
    assert {(one.outcome, one.reward) for one in scores} == {(outcome, None)}
    assert said in scores[0].message
    if outcome is Outcome.INFRASTRUCTURE:
        assert f"own_rewards:{name}" in scores[0].message


@pytest.mark.parametrize(
    ("name", "code"),
    [("fails", "return [1 / len"), ("reads_json", "return [json.loads"), ("unreadable_note", "raise ValueError")],
)
def test_a_fault_names_the_line_of_the_plugin(own_rewards, name, code):
    line = MODULE[: MODULE.index(code)].count("\n") + 1
    assert f"{own_rewards}/own_rewards.py:{line}" in scored(own_rewards, name)[0].message


def test_an_odd_fault_leaves_the_design_as_it_was(own_rewards):
    scored(own_rewards, "adds_a_term")
    assert scored(own_rewards, "plain")[0].terms is None


def test_a_fault_names_the_candidate_that_it_is_about(own_rewards):
    assert "for the candidate 'SELECT * FROM emp': correct it" in scored(own_rewards, "fails_for_some")[0].message


def test_a_design_that_refuses_a_lone_candidate_blames_none(own_rewards):
    message = scored(own_rewards, "compares")[0].message
    assert "TypeError" in message and "for the candidate" not in message


def test_a_plugin_says_whether_candidates_are_run_and_how_results_are_compared(own_rewards):
    assert [one.outcome for one in scored(own_rewards, "ReadsTextAlone")][:2] == [Outcome.NOT_EXECUTED] * 2
    repeated = "SELECT name FROM emp WHERE dept = 'it' UNION ALL SELECT name FROM emp WHERE dept = 'it'"
    assert scored(own_rewards, "SetsOfRows", [repeated], semantics="strict")[0].reward == 1.0
    assert scored(own_rewards, "plain", [repeated], semantics="strict")[0].reward == 0.1


def test_a_worker_without_the_module_says_where_it_looked(tmp_path):
    with pytest.raises(ConfigError, match=rf"no module 'own_rewards'.*none in {tmp_path}"):
        Scorer(tmp_path, RewardSection(design="own_rewards:plain"), plugin_folder=tmp_path)


@pytest.mark.heavy
def test_floe_score_takes_a_reward_from_the_working_folder(own_rewards):
    arguments = score_arguments(own_rewards)
    done = floe(
        *arguments, "--reward", "own_rewards:with_terms", "--set", "reward.arguments.weight=2", home=own_rewards
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["reward"] for line in done.stdout.splitlines()] == [2.0, 0.2, 0.0, 0.0]
    shorter = floe(*arguments, "--reward", "own_rewards:with_terms", "--set", "arguments.weight=2", home=own_rewards)
    assert [json.loads(line)["reward"] for line in shorter.stdout.splitlines()] == [2.0, 0.2, 0.0, 0.0]
    failed = floe(*arguments, "--reward", "own_rewards:fails_for_some", home=own_rewards)
    assert failed.returncode == 3 and "TypeError" in json.loads(failed.stdout.splitlines()[0])["message"]
    assert "the first because: the reward design own_rewards:fails_for_some raised TypeError" in failed.stderr
    refused = floe(*arguments, "--reward", "own_rewards:plane", home=own_rewards)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.strip().endswith("own_rewards has no 'plane': the nearest is 'plain'.")


def score_arguments(folder: Path) -> list[str]:
    """Write a question with its predictions; return the command's arguments."""
    (folder / "questions.json").write_text(
        json.dumps([{"question_id": "q", "db_id": "emp", "question": "who is in it?", "query": GOLD}])
    )
    lines = [json.dumps({"question_id": "q", "sql": sql}) for sql in ANSWERS]
    (folder / "predictions.jsonl").write_text("\n".join(lines))
    return [
        "score", "--questions", str(folder / "questions.json"), "--databases", str(folder),
        "--predictions", str(folder / "predictions.jsonl"), "--json", "--workers", "1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def with_package(tmp_path_factory) -> Path:
    """The bin folder of an environment that sees floe's packages, with the example package installed by pip."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(purelib, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")  # setuptools, which builds it, too
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    run(*PIP, "--python", python, "install", "--quiet", *offline, folder / "source")
    return python.parent


def run(*command: str | Path, home: Path | None = None, code: int = 0) -> str:
    """Return what the command prints, on both streams; it must end with `code`."""
    of_tests = ("RAY_ADDRESS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in of_tests}
    environment |= {"PYTHONPATH": str(REPOSITORY), "FLOE_HOME": str(home)}
    done = subprocess.run(
        [str(part) for part in command], env=environment, cwd=home, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.heavy
def test_the_example_package_is_installed_by_pip_and_named_by_its_entry_point(with_package, tmp_path):
    make_database(tmp_path, "emp")
    command = (with_package / "python", "-P", "-m", "floe.cluster.cli", *score_arguments(tmp_path))
    printed = run(*command, "--reward", "tidy_sql", "--set", "reward.arguments.star_penalty=0.5", home=tmp_path)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [line["reward"] for line in lines] == [1.0, -0.4, 0.0, 0.0]
    assert lines[1]["terms"] == {"execution": 0.1, "star": -0.5, "length": 0.0}
    refused = run(*command, "--reward", "tidi_sql", home=tmp_path, code=2)
    assert "'graph_reward', 'tidy_sql' or package.module:Name" in refused


@pytest.mark.heavy
def test_the_example_packages_own_tests_pass(with_package, tmp_path):
    shutil.copytree(PACKAGE / "tests", tmp_path / "tests")
    printed = run(with_package / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", home=tmp_path)
    assert "11 passed" in printed


@pytest.mark.engine
@pytest.mark.long
def test_the_example_package_trains_and_its_code_is_part_of_the_run(with_package, other_home, tmp_path):
    train = (with_package / "python", "-P", "-m", "floe.cluster.cli", "train")
    run_dir = tmp_path / "run"
    small = ("evaluation.enabled=false", "warm_start.enabled=false")
    run(
        *train, "--config", REPOSITORY / "configs" / "smoke.yaml", "--run-dir", run_dir, "cluster.address=local",
        "run.num_steps=1", "reward.design=tidy_sql", "reward.arguments.star_penalty=0.5", *small, home=other_home,
    )  # fmt: skip
    (metrics,) = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert {"reward_term_execution", "reward_term_star", "reward_equal_term_star"} <= metrics.keys()
    (module,) = with_package.parent.glob("lib/*/site-packages/floe_tidy_sql/__init__.py")
    module.write_text(module.read_text() + "\n")
    changed = run(*train, "--resume", run_dir, "run.num_steps=2", home=other_home, code=2)
    assert "other code of its plug-ins" in changed
