"""`floe.SqlReward` in a trainer's environment: the packages that docs/trainers.md names are all that it needs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from floe import SqlReward, UserError
from floe.reward_service.sandbox.executor_settings import ExecutorSettings
from tests.command_line import REPOSITORY
from tests.score_requests import ENDLESS, GOLD, make_database

PURELIB = Path(sysconfig.get_path("purelib"))
# What pip installs for pydantic and pyyaml.
PARTS = {
    "pydantic": (
        "pydantic",
        "pydantic_core",
        "annotated_types",
        "typing_extensions.py",
        "typing_inspection",
    ),
    "pyyaml": ("yaml", "_yaml"),
}
SCORE = """
import sys
from floe import SqlReward
with SqlReward(sys.argv[1], time_limit_s=0.5) as reward:
    hostile = [{endless!r}, "ATTACH 'made.db' AS made", "DROP TABLE emp", "PRAGMA user_version = 7"]
    scores = reward.score([{gold!r}, "SELECT 1", *hostile], db_id="emp", gold_sql={gold!r})
    print([one.reward for one in scores])
"""
REFUSED = """
import sys
from floe import SqlReward, UserError
try:
    SqlReward(sys.argv[1], design=sys.argv[2], **eval(sys.argv[3]))
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Make an environment with what the page names and nothing else."""
    page = (REPOSITORY / "docs" / "trainers.md").read_text()
    named = re.search(r"^pip install (pydantic.*)$", page, re.MULTILINE).group(1).split()
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in [part for package in named for part in PARTS[package]]:
        (site / name).symlink_to(PURELIB / name)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def databases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    make_database(folder)
    return folder


def run_bare(python: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([python, "-c", code, *arguments], env=environment, capture_output=True, text=True)


def test_what_the_page_names_is_enough_for_right_wrong_and_hostile_completions(python, databases):
    lacks = run_bare(python, "import importlib.util; print(importlib.util.find_spec('xxhash'))")
    assert lacks.stdout == "None\n" and importlib.util.find_spec("xxhash")
    done = run_bare(python, SCORE.format(gold=GOLD, endless=ENDLESS), databases)
    assert done.stdout == "[1.0, 0.1, 0.0, 0.0, 0.0, 0.0]\n", done.stderr
    assert not done.stderr


def test_a_package_that_a_design_lacks_is_named_when_the_reward_is_made(python, databases):
    done = run_bare(python, REFUSED, databases, "reasoning_sql", "{'reasoning_judge_weight': 0}")
    assert done.stdout == (
        "SqlReward with design='reasoning_sql' needs the package sqlglot, which this Python lacks: install it in the "
        "trainer's environment, as with pip install sqlglot.\n"
    ), done.stderr
    assert not done.stderr


def test_a_package_that_the_executors_lack_is_named_too(databases, tmp_path, monkeypatch):
    (tmp_path / "program_of_executors.py").write_text("import lacking_package.part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ExecutorSettings, "program", "program_of_executors")
    with pytest.raises(UserError, match=r"design='arctic' needs the package lacking_package, which this Python lacks"):
        SqlReward(databases)
