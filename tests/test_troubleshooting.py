"""docs/troubleshooting.md: each of its failures is provoked by an existing test, and is reported in these words."""

import ast
import re
from pathlib import Path

import pytest

from tests.command_line import REPOSITORY

DOC = REPOSITORY / "docs" / "troubleshooting.md"
ROW = re.compile(r"^\| (?P<shown>.+) \| .+ \| .+ \| `(?P<file>test_\w+\.py)::(?P<test>test_\w+)` \|$", re.MULTILINE)
ROWS = [(found["shown"], found["file"], found["test"]) for found in ROW.finditer(DOC.read_text())]
PROGRAM = ("actors", "cluster", "configs", "learner", "reward_service")


@pytest.fixture(scope="module")
def said() -> str:
    """Return all text of the program, with the values of f-strings as `...`."""
    parts = []
    for folder in PROGRAM:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts += [_text(node) for node in ast.walk(ast.parse(path.read_text())) if _is_text(node)]
    return "\n".join(parts)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else "..." for value in node.values)
    return str(getattr(node, "value", ""))


def test_there_are_the_fifteen_commonest_and_more():
    assert len(ROWS) >= 15
    assert len(ROWS) == DOC.read_text().count("| `test_")


@pytest.mark.parametrize(("shown", "file", "test"), ROWS)
def test_each_is_provoked_by_a_test_and_said_in_these_words(shown, file, test, said):
    tree = ast.parse((Path(__file__).parent / file).read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for quoted in re.findall(r"`([^`]+)`", shown):
        for part in filter(None, (part.strip(" ,:") for part in quoted.split("..."))):
            assert part in said, f"'{part}' is nowhere said"
