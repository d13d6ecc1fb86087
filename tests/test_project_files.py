"""Files that other programs read: images, the workflow, hooks, and what CONTRIBUTING.md points to."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.command_line import REPOSITORY

IMAGES = sorted((REPOSITORY / "docker").glob("*.Dockerfile"))
GOOD = """\
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends make=4.3-* && rm -rf /var/lib/apt/lists/*
USER floe
WORKDIR /opt/floe
COPY . .
CMD ["floe"]
"""


def instructions(text: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments) for each of a Dockerfile's, continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(one.split()[0].upper(), one.partition(" ")[2]) for one in joined.splitlines() if one.strip()]


def faults(text: str) -> set[str]:
    """Return the numbers of hadolint's rules that the Dockerfile breaks, of the main ones."""
    found, user = set(), "root"
    for name, arguments in instructions(text):
        if name == "FROM":
            found |= {"DL3006"} if ":" not in arguments else set()
            found |= {"DL3007"} if arguments.endswith(":latest") else set()
        elif name == "USER":
            user = arguments
        elif name == "WORKDIR":
            found |= set() if arguments.startswith("/") else {"DL3000"}
        elif name == "ADD":
            found.add("DL3020")
        elif name == "MAINTAINER":
            found.add("DL4000")
        elif name in ("CMD", "ENTRYPOINT"):
            found |= set() if arguments.startswith("[") else {"DL3025"}
        elif name == "RUN":
            found |= faults_of_command(arguments)
    return found | ({"DL3002"} if user in ("root", "0") else set())


def faults_of_command(command: str) -> set[str]:
    found = set()
    parts = [part.split() for part in re.split(r"&&|;|\|\|", command)]
    for words in filter(None, parts):
        found |= {"DL3004"} if words[0] == "sudo" else set()
        found |= {"DL3003"} if words[0] == "cd" else set()
        if words[:2] == ["apt-get", "install"]:
            packages = [word for word in words[2:] if not word.startswith("-")]
            found |= {"DL3008"} if not all("=" in package for package in packages) else set()
            found |= {"DL3014"} if not {"-y", "--yes"} & set(words) else set()
            found |= {"DL3015"} if "--no-install-recommends" not in words else set()
            found |= {"DL3009"} if "rm -rf /var/lib/apt/lists/*" not in command else set()
    return found


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_images_keep_the_main_rules_of_hadolint(image):
    assert faults(image.read_text()) == set()
    if program := shutil.which("hadolint"):
        done = subprocess.run([program, str(image)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("python:3.11-slim-bookworm", "python", "DL3006"),
        ("python:3.11-slim-bookworm", "python:latest", "DL3007"),
        ("USER floe", "USER root", "DL3002"),
        ("USER floe\n", "", "DL3002"),
        ("WORKDIR /opt/floe", "WORKDIR floe", "DL3000"),
        ("COPY", "ADD", "DL3020"),
        ('["floe"]', "floe", "DL3025"),
        ("apt-get update", "sudo apt-get update", "DL3004"),
        ("apt-get update", "cd / && apt-get update", "DL3003"),
        ("make=4.3-*", "make", "DL3008"),
        (" && rm -rf /var/lib/apt/lists/*", "", "DL3009"),
        ("--yes ", "", "DL3014"),
        ("--no-install-recommends ", "", "DL3015"),
    ],
)
def test_each_rule_is_looked_at(old, new, rule):
    assert faults(GOOD) == set() and faults(GOOD.replace(old, new)) == {rule}


def test_there_is_an_image_for_each_engine_and_each_runs_the_set_up_and_not_as_root():
    assert [path.name for path in IMAGES] == ["cpu.Dockerfile", "cuda.Dockerfile"]
    for path in IMAGES:
        given = instructions(path.read_text())
        assert any(name == "RUN" and "cluster/setup.sh" in arguments for name, arguments in given)
        assert [arguments for name, arguments in given if name == "USER"] == ["floe"]


def made() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def test_the_workflow_runs_targets_of_make_and_nothing_else():
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {"make check", "make ci", "make coverage", "make docs", "make mutants"} == set(commands)
    assert {command.removeprefix("make ") for command in commands} <= made()


def test_hooks_are_the_set_ups_own_programs():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["repo"] for one in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    assert {Path(entry.split()[0]).name for entry in entries} == {"ruff", "mypy"}
    assert all(entry.startswith(".venv/bin/") for entry in entries)


def test_what_contributing_points_to_is_there():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:actors|cluster|configs|docker|docs|floe|learner|reward_service|tests)/[^` ]*)`", text)
    assert len(paths) > 20 and [path for path in paths if not (REPOSITORY / path).exists()] == []
    targets = re.findall(r"`make ([a-z-]+)`", text)
    assert {"setup", "check", "test", "ci", "coverage", "mutants"} <= set(targets) <= made()
