"""docs/gpu.md: what it says is tested is tested, and no page promises on a GPU what holds on a CPU alone."""

import ast
import re

import pytest

from tests.command_line import REPOSITORY

DOCS = REPOSITORY / "docs"
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (DOCS / "gpu.md").read_text())))
EXACT = re.compile(r"bit for bit|to the bit")


def test_the_page_names_tests():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_test_that_the_page_names_exists(file, test):
    tree = ast.parse((REPOSITORY / "tests" / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", ["architecture.md", "runs.md", "rollout.md", "learner.md"])
def test_what_is_the_same_to_the_bit_is_so_on_a_cpu(name):
    paragraphs = re.split(r"\n\s*\n", (DOCS / name).read_text())
    assert [one for one in paragraphs if EXACT.search(one) and "CPU" not in one] == []


def test_the_pages_of_a_gpu_are_linked():
    assert "](docs/gpu.md)" in (REPOSITORY / "README.md").read_text()
    assert {"gpu.md#what-is-proven-where", "gpu.md#what-a-gpu-does-otherwise"} <= links(DOCS / "architecture.md")
    headings = {
        line.removeprefix("## ").lower().replace(" ", "-") for line in (DOCS / "gpu.md").read_text().splitlines()
    }
    assert {"what-is-proven-where", "what-a-gpu-does-otherwise"} <= headings
    assert "monitoring.md#gpus" in links(DOCS / "gpu.md") and "\n## GPUs\n" in (DOCS / "monitoring.md").read_text()


def links(page) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", page.read_text()))
