"""The wheel, installed without its dependencies beside the set-up's packages and away from the checkout, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from floe.actors.demo.build import write_demo
from tests.command_line import REPOSITORY
from tests.run_folders import small_run

pytestmark = pytest.mark.heavy

LIMIT_S = 600
PACKED = ("actors", "cluster", "configs", "floe", "learner", "reward_service")
FILES = ("LICENSE", "README.md", "pyproject.toml")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
WHERE = "import floe.cluster as c; print(c.__file__)"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The bin folder of an environment with the wheel; of the running one it sees the packages, and no editable one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(REPOSITORY / name, source / name)
    checked(*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    checked(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    checked(*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    shutil.rmtree(source)
    purelib = checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # What a folder on this list holds is imported, but its own lists, and so the checkout's, are not read.
    Path(purelib, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def checked(*command: str | Path, home: Path | None = None) -> str:
    """Return what the command prints; it runs without a module path, in `home`, and must end well."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(part) for part in command], env=environment | {"FLOE_HOME": str(home)}, cwd=home, capture_output=True,
        text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_its_own_code_runs_and_helps(installed, tmp_path):
    assert Path(checked(installed / "python", "-c", WHERE, home=tmp_path).strip()).is_relative_to(installed.parent)
    assert "train" in checked(installed / "floe", "--help", home=tmp_path)


def test_it_scores(installed, tmp_path):
    write_demo(tmp_path)
    questions = json.loads((tmp_path / "train.json").read_text())[:3]
    answers = [questions[0]["query"], questions[1]["query"], "SELECT nothing"]
    lines = [
        json.dumps({"question_id": q["question_id"], "sql": sql}) for q, sql in zip(questions, answers, strict=True)
    ]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    printed = checked(
        installed / "floe", "score", "--questions", tmp_path / "train.json", "--databases", tmp_path / "databases",
        "--predictions", tmp_path / "predictions.jsonl", "--json", home=tmp_path,
    )  # fmt: skip
    assert [json.loads(line)["reward"] for line in printed.splitlines()] == [1.0, 1.0, 0.0]


@pytest.mark.long  # the plan's times are measured: half a minute
def test_it_plans_a_shipped_configuration(installed, tmp_path):
    planned = checked(installed / "floe", "plan", "--config", "quickstart", "cluster.address=local", home=tmp_path)
    assert planned.startswith("embedded:smollm2-135m-instruct")


def test_it_makes_a_runs_page(installed, tmp_path):
    run = small_run(tmp_path / "run")
    checked(installed / "floe", "report", run, home=tmp_path)
    assert "<style>" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "pattern", ["cluster/dashboards/*.json", "cluster/deploy/*.yaml", "configs/*.yaml", "py.typed"]
)
def test_it_has_the_files_that_are_no_code(installed, pattern, tmp_path):
    floe = Path(checked(installed / "python", "-c", WHERE, home=tmp_path).strip()).parent.parent
    found = {path.name: path.read_bytes() for path in floe.glob(pattern)}
    assert found == {path.name: path.read_bytes() for path in (REPOSITORY / "floe").glob(pattern)} != {}
