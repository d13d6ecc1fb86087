"""docs/plugins.md: its reward is written to a file as shown, and its commands are run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from floe.actors.demo.build import write_demo
from floe.cluster.plugins.checks import check_plugins
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, floe

PAGE = (REPOSITORY / "docs" / "plugins.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def shown(start: str) -> list[str]:
    """Return the arguments of the page's commands that begin so."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(start)]


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with floe's demo, in which the page's three files are written as shown."""
    write_demo(tmp_path / ".floe" / "demo")
    (tmp_path / "my_reward.py").write_text(blocks("python")[0])
    for name, text in zip(("questions.json", "answers.jsonl"), blocks("json"), strict=True):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_reward_of_the_page_scores(working_folder):
    (arguments,) = shown("floe score")
    done = floe(*(one.replace("~", str(working_folder)) for one in arguments), "--json", home=working_folder)
    assert done.returncode == 0, done.stderr
    rewards = [json.loads(line)["reward"] for line in done.stdout.splitlines()]
    assert rewards == [1.0, 0.5, -0.4, 0.0]
    assert f"It prints {', '.join(f'{one:g}' for one in rewards[:3])} and 0:" in PAGE


def test_a_run_takes_what_the_page_gives_on_the_command_line_and_in_a_file(working_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(working_folder))
    command, option, config, *overrides = shown("floe train")[0]
    assert (command, option) == ("train", "--config")
    given = load_config(REPOSITORY / config, overrides)
    (working_folder / "mine.yaml").write_text(blocks("yaml")[0])
    for one in (given, load_config(working_folder / "mine.yaml")):
        assert (one.reward.design, one.reward.arguments) == ("my_reward:no_star", {"penalty": 0.5})
        assert check_plugins(one) == [
            f"reward.design my_reward:no_star from {working_folder}/my_reward.py, with penalty given"
        ]


def test_the_refusal_is_the_one_that_the_page_shows(working_folder):
    done = floe(*score_of_nothing(working_folder), "--reward", "my_reward:no_sta", home=working_folder)
    assert done.returncode == 2
    assert done.stderr.strip() in PAGE


def score_of_nothing(folder: Path) -> list[str]:
    return [
        "score", "--questions", "questions.json", "--databases", str(folder / ".floe" / "demo" / "databases"),
        "--predictions", "answers.jsonl",
    ]  # fmt: skip


def test_the_package_has_the_name_that_the_page_gives_it():
    package = (REPOSITORY / "docs/examples/floe_tidy_sql/pyproject.toml").read_text()
    assert all(line in package for line in blocks("toml")[0].splitlines())
