"""README.md and docs/: the files, modules, tests and headings that they name exist."""

import re
from pathlib import Path

import pytest

from tests.command_line import REPOSITORY

PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text()
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
FOLDERS = "actors|cluster|configs|docs|learner|reward_service|tests"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./*-]*)`")
TEST = re.compile(r"`(?:tests/)?(test_\w+\.py)[`:]")
MODULE = re.compile(r"(?:python -m|from|import) ((?:floe|tests)\.[\w.]+)")
LINK = re.compile(r"\]\(((?!https?:)[^)\s]*)\)")


def unknown_paths(text: str) -> list[str]:
    """Return what the text names in backticks as a file or folder of the repository, and what is none."""
    named = [(one, one) for one in PATH.findall(text)] + [(one, f"tests/{one}") for one in TEST.findall(text)]
    return [name for name, path in named if not any(REPOSITORY.glob(path.rstrip("/")))]


def unknown_modules(text: str) -> list[str]:
    places = {one: REPOSITORY / one.replace(".", "/") for one in MODULE.findall(text)}
    return [one for one, place in places.items() if not (place.is_dir() or place.with_suffix(".py").is_file())]


def broken_links(page: str, text: str) -> list[str]:
    """Return the links to other pages, headings and images that lead nowhere."""
    return [link for link in LINK.findall(text) if not _leads_somewhere(page, link)]


def _leads_somewhere(page: str, link: str) -> bool:
    target, _, heading = link.partition("#")
    path = Path(page).parent / target if target else Path(page)
    if not (REPOSITORY / path).is_file():
        return False
    return not heading or heading in _headings((REPOSITORY / path).read_text())


def _headings(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES)
def test_files_modules_and_tests_that_a_page_names_exist(page):
    assert not unknown_paths(PAGES[page]) + unknown_modules(PAGES[page])


# README.md also links to files at the top, which GitHub shows with it.
@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    assert not [link for link in broken_links(page, PAGES[page]) if page != "README.md" or link.startswith("docs/")]


def test_every_page_can_be_reached_from_the_readme():
    """Either by a link there, or by one of docs/index.md, which is linked there."""
    linked = {link.partition("#")[0] for link in LINK.findall(PAGES["README.md"])}
    listed = {f"docs/{link.partition('#')[0]}" for link in LINK.findall(PAGES["docs/index.md"])}
    assert "docs/index.md" in linked
    assert PAGES.keys() - {"README.md"} <= linked | listed


def test_the_rooms_of_the_architecture_page_are_those_that_exist():
    shown = re.findall(r"^\| `(\w+/\w+/)` \|", PAGES["docs/architecture.md"], flags=re.MULTILINE)
    inits = [path for folder in FOLDERS.split("|") for path in (REPOSITORY / folder).glob("*/__init__.py")]
    assert sorted(shown) == sorted(f"{path.parent.relative_to(REPOSITORY)}/" for path in inits)


def sections(page: str) -> list[str]:
    return re.split(r"^## ", PAGES[page], flags=re.MULTILINE)


def tables_of_results(text: str) -> list[str]:
    """Return the rows of each shown table of policies."""
    return re.findall(r"^ policy  .*\n ─+\n((?: .*\n)+?)(?=\n|```)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/try_it.md"])
def test_a_newcomers_page_shows_a_table_of_the_quickstarts_page(page):
    (table,) = tables_of_results(PAGES[page])
    assert table in tables_of_results(PAGES["docs/quickstart.md"])


@pytest.mark.parametrize("page", ["docs/quickstart.md", "docs/geoquery.md"])
def test_results_name_the_code_and_the_processor_that_made_them(page):
    parts = [PAGES[page]] if page == "docs/geoquery.md" else sections(page)
    shown = [" ".join(part.split()) for part in parts if tables_of_results(part)]
    assert shown
    assert [part[:80] for part in shown if not re.search(r"commit [0-9a-f]{7}\b", part)] == []
    assert [part[:80] for part in shown if not re.search(r"AMD EPYC|Intel Xeon|name was not recorded", part)] == []


def test_what_does_not_exist_is_found():
    assert unknown_paths("`cluster/packing.py`, `learner/`, `test_lost.py`, `test_docs.py::test_x`") == [
        "cluster/packing.py",
        "test_lost.py",
    ]
    assert unknown_modules("python -m floe.cluster.gone, from floe.cluster.messages import Question") == [
        "floe.cluster.gone"
    ]
    assert broken_links("docs/data.md", "[a](gone.md) [b](data.md#gone) [c](data.md#pass-rates) [d](#pass-rates)") == [
        "gone.md",
        "data.md#gone",
    ]
