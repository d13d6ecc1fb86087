"""The docs as a site: the strict build, the pages that are made from the code, and the faults that it must notice."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from enum import Enum
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Annotated, Literal

import pytest
import typer
import yaml
from pydantic import Field
from pydantic.fields import FieldInfo
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.ui import WebDriverWait

import floe
from floe.cluster.docs_site.command_page import command_page
from floe.cluster.docs_site.markdown_text import code, prose
from floe.cluster.docs_site.python_pages import MODULE_OF_PLUGINS, public_names
from floe.configs.files.complaints import dotted_keys, fields_of
from floe.configs.files.field_facts import bounds_of, default_of, name_of_type
from tests.browser import LOAD_LIMIT_S, headless_browser, new_console_lines, new_requests, set_width
from tests.command_line import REPOSITORY
from tests.command_line import floe as call_floe

REFERENCE = {"commands", "configuration", "python", "plugins"}
LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href"}  # tags whose address a browser fetches


class Page(HTMLParser):
    """The ids, the text and the fetched addresses of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: set[str] = set()
        self._texts: list[str] = []
        self.feed(path.read_text())
        self.text = " ".join("".join(self._texts).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found["id"]} if found.get("id") else set()
        if tag in LOADS and found.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.add(found.get(LOADS[tag]) or "")

    def handle_data(self, data):
        self._texts.append(data)


def build(folder: Path, site: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "properdocs", "build", "--config-file", str(folder / "properdocs.yml"),
         "--site-dir", str(site)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in site.rglob("*.html")}


def test_every_page_of_the_docs_and_of_the_reference_is_in_the_site(pages):
    written = {f"{path.stem}.html" for path in (REPOSITORY / "docs").glob("*.md")}
    assert written | {f"reference/{name}.html" for name in REFERENCE} <= pages.keys()


def test_the_site_loads_nothing_from_elsewhere(pages, site):
    fetched = {address for page in pages.values() for address in page.fetched}
    assert len(fetched) > 10 and [one for one in fetched if re.match(r"(\w+:)?//", one)] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"(@import|url\()\s*[\"']?https?:", styles)


def test_the_help_of_every_command_is_in_the_site(pages, tmp_path):
    page = pages["reference/commands.html"]
    for name in ("train", "ask", "score", "bench", "bench-reward", "prepare-spider", "train-graph-reward"):
        assert f"floe-{name}" in page.ids
    helped = call_floe("evaluate", "--help", home=tmp_path).stdout
    options = re.findall(r"^  (--[\w-]+)", helped, re.MULTILINE)
    assert len(options) > 8 and [one for one in options if one not in page.text] == []
    assert "unsupervised" not in page.text  # an option that the help hides too


def test_every_field_is_in_the_site_and_says_what_it_is_for(pages):
    page = pages["reference/configuration.html"]
    assert len(dotted_keys()) > 100 and set(dotted_keys()) <= page.ids
    silent = [key for key in dotted_keys() if not fields_of(key.partition(".")[0])[key.partition(".")[2]].description]
    assert silent == []
    shown = page.text.partition("run.seed¶")[2].partition("run.num_steps")[0]
    assert "Every random stream of the run derives from it." in shown
    assert "a whole number, at least 0, at most 4,294,967,295 Default: 1 At a resume: refused" in shown
    assert "may only grow" in page.text.partition("run.num_steps¶")[2].partition("run.home")[0]


@pytest.mark.parametrize(("page", "module"), [("python", "floe"), ("plugins", MODULE_OF_PLUGINS)])
def test_every_public_name_has_an_entry(pages, page, module):
    names = public_names(module)
    assert len(names) >= 2 and {f"{module}.{name}" for name in names} <= pages[f"reference/{page}.html"].ids


def test_an_entry_has_the_docstring_and_the_signature(pages):
    assert floe.ConfigError.__doc__ in pages["reference/python.html"].text
    text = pages["reference/plugins.html"].text
    assert "JudgedCandidate( *, outcome: Outcome" in text and "__call__(group: JudgedGroup)" in text


def test_the_search_finds_fields_and_commands(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    titles = {one["title"] for one in index["docs"]}
    assert {"floe train", "rollout.group_size", "My own data"} <= titles


@pytest.mark.heavy
def test_a_reader_finds_a_field_by_its_name_and_no_page_is_wider_than_a_phone(site):
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, headless_browser() as chrome:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            chrome.get(f"{address}/index.html")
            wait = WebDriverWait(chrome, LOAD_LIMIT_S)
            field = wait.until(element_to_be_clickable((By.CSS_SELECTOR, "input.md-search__input")))
            field.click()
            field.send_keys("group_size")
            found = "a[href*='configuration.html'][href$='#rollout.group_size']"
            wait.until(lambda one: one.find_elements(By.CSS_SELECTOR, found))
            set_width(chrome, 390)
            for page in (
                "index",
                "troubleshooting",
                "reference/commands",
                "reference/configuration",
                "reference/plugins",
            ):
                chrome.get(f"{address}/{page}.html")
                assert chrome.execute_script("return document.documentElement.scrollWidth") <= 390, page
            assert [url for url in new_requests(chrome) if not url.startswith(address)] == []
            assert new_console_lines(chrome) == []
        finally:
            server.shutdown()


@pytest.fixture
def copy(tmp_path) -> Path:
    """The sources of the site, to be changed."""
    for name in ("floe", "actors", "cluster", "configs", "learner", "reward_service"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copy(REPOSITORY / "properdocs.yml", tmp_path)
    return tmp_path


def test_a_notebook_has_a_page_with_its_cells(copy):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Ask\n", "\n", "Words."]},
        {"cell_type": "code", "metadata": {}, "source": ["import floe\n", "print(1)"], "outputs": ["a long one"]},
        {"cell_type": "code", "metadata": {}, "source": [], "outputs": []},
    ]
    (copy / "docs" / "notebooks").mkdir(exist_ok=True)
    (copy / "docs" / "notebooks" / "asked.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    config = copy / "properdocs.yml"
    config.write_text(config.read_text().replace("  - Reference:\n", "  - Asked: notebooks/asked.md\n  - Reference:\n"))
    done = build(copy, copy / "site")
    assert done.returncode == 0, done.stderr
    page = Page(copy / "site" / "notebooks" / "asked.html")
    assert "Words." in page.text and "import floe print(1)" in page.text and "a long one" not in page.text
    assert (copy / "site" / "notebooks" / "asked.ipynb").is_file()


def test_what_leads_nowhere_fails_the_build_and_is_named(copy):
    (copy / "docs" / "data.md").write_text("# Data\n\n## Pass rates\n\n[a](gone.md) [b](runs.md#gone)\n")
    (copy / "docs" / "forgotten.md").write_text("# A page that the navigation lacks\n")
    config = copy / "properdocs.yml"
    config.write_text(config.read_text().replace("  - Reference:\n", "  - Lost: lost.md\n  - Reference:\n"))
    done = build(copy, copy / "site")
    assert done.returncode != 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    named = "\n".join(warnings)
    assert "'gone.md'" in named and "'runs.md#gone'" in named and "'lost.md'" in named
    assert "forgotten.md" in done.stderr


def test_an_unknown_name_of_the_package_fails_the_build(copy):
    (copy / "docs" / "data.md").write_text("# Data\n\n## Pass rates\n\n::: floe.Gone\n")
    done = build(copy, copy / "site")
    assert done.returncode != 0 and "floe.Gone" in done.stderr


class Way(Enum):
    ONE = "one"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "a whole number"),
        (int | None, "a whole number or nothing"),
        (Way | Literal["auto"], "`one` or `auto`"),
        (Literal["auto", 0, 1], "`auto`, `0` or `1`"),
        (tuple[str, ...], "a list: text"),
        (tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], "a list: 2 values, each a number"),
        (dict[str, float], "a mapping"),
        (Path | None, "a path or nothing"),
    ],
)
def test_a_type_is_named_in_words(kind, name):
    assert name_of_type(kind) == name


def test_bounds_and_defaults_are_written_as_in_a_configuration():
    info = FieldInfo.from_annotated_attribute(int, Field(2048, ge=1, lt=5000))
    assert bounds_of(info) == ["at least 1", "less than 5,000"] and default_of(info) == "`2048`"
    shown = [default_of(FieldInfo(default=value)) for value in (None, "", "a", False, (0.9, 0.5), Path("~/x"), Way.ONE)]
    assert shown == ["nothing", '`""`', "`a`", "`false`", "`[0.9, 0.5]`", "`~/x`", "`one`"]


def test_what_markdown_would_take_for_markup_is_escaped():
    assert prose("`<db_id>/*.sqlite` of <name> & *all*") == r"`<db_id>/*.sqlite` of &lt;name> &amp; \*all\*"
    assert code("a") == "`a`" and code("a`b") == "`` a`b ``"


def test_a_command_of_a_group_has_a_section_and_a_hidden_one_has_none():
    app, group = typer.Typer(help="All of it."), typer.Typer(help="A group.")
    app.add_typer(group, name="group")

    @group.command(help="One\nsentence.\n\nAnother one.")
    def inner(size: Annotated[int, typer.Option(help="Number of <things>.")] = 3) -> None: ...

    @app.command(hidden=True)
    def secret() -> None: ...

    page = command_page(app, "tool")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["tool", "tool group", "tool group inner"]
    assert "One sentence.\n\nAnother one.\n" in page and "Number of &lt;things>.  [default: 3]" in page


def test_the_navigation_has_a_page_for_each_question_of_a_newcomer():
    text = (REPOSITORY / "properdocs.yml").read_text()
    navigation = yaml.safe_load("nav:" + text.partition("\nnav:")[2])["nav"]
    questions = next(part["Start here"] for part in navigation if "Start here" in part)
    asked = {name for one in questions for name in one}
    assert {"Try it", "My own data", "A GPU", "A cluster", "When something fails"} <= asked


def test_the_configuration_that_the_page_of_own_data_shows_is_valid(tmp_path):
    from floe.configs.files.loading import load_config

    shown = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "own_data.md").read_text(), re.DOTALL)
    (tmp_path / "own.yaml").write_text(shown[0])
    assert load_config(tmp_path / "own.yaml").data.prepared == tmp_path / "PREPARED_DIR"
