"""The page of a run in a real browser: it loads without errors and without the network, and its filters work."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from floe.cluster.operations.report import report
from tests.browser import LOAD_LIMIT_S, headless_browser, new_console_lines, new_requests, set_dark, set_width
from tests.run_folders import small_run
from tests.test_report import hostile_run

pytestmark = pytest.mark.heavy  # each starts a browser

NARROW = 390  # pixels, as a telephone has


@pytest.fixture(scope="module")
def chrome():
    with headless_browser() as chrome:
        yield chrome


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Return the address of the page of a small run."""
    folder = small_run(tmp_path_factory.mktemp("report") / "run")
    report(folder, None, opens=False)
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(chrome, page):
    """Open the page anew for each test, at the usual width."""
    chrome.get("about:blank")  # otherwise what the test before typed may come back
    set_width(chrome, 1280)
    new_console_lines(chrome)
    new_requests(chrome)
    chrome.get(page)
    WebDriverWait(chrome, LOAD_LIMIT_S).until(lambda browser: len(shown_groups(browser)) == 6)
    return chrome


def count(chrome) -> str:
    return chrome.find_element(By.ID, "count").text


def wait_for_count(chrome, expected: str) -> None:
    """Wait until the page has taken in what was typed, and fail with what it shows where it doesn't."""
    with suppress(TimeoutException):
        WebDriverWait(chrome, LOAD_LIMIT_S).until(lambda browser: count(browser) == expected)
    assert count(chrome) == expected


def shown_groups(chrome) -> list:
    return [one for one in chrome.find_elements(By.CSS_SELECTOR, "#groups button") if one.is_displayed()]


def test_it_loads_without_errors_and_asks_for_nothing(opened, page):
    plots = opened.find_elements(By.CSS_SELECTOR, ".plot")
    assert len(plots) == 10
    assert all(plot.find_elements(By.CSS_SELECTOR, "svg .trace") for plot in plots)
    assert new_console_lines(opened) == []
    assert new_requests(opened) == {page}


def test_filters_leave_the_groups_that_they_say(opened):
    assert count(opened) == "6 of 6 groups" and len(shown_groups(opened)) == 6
    outcome = Select(opened.find_element(By.ID, "filter-outcome"))
    outcome.select_by_value("outcome:no_sql")
    assert count(opened) == "3 of 6 groups" and len(shown_groups(opened)) == 3
    assert "number 1" in opened.find_element(By.CSS_SELECTOR, "#group h3").text
    Select(opened.find_element(By.ID, "filter-step")).select_by_value("2")
    assert count(opened) == "1 of 6 groups"
    outcome.select_by_value("kind:some right")
    assert count(opened) == "1 of 6 groups"
    assert "number 0" in opened.find_element(By.CSS_SELECTOR, "#group h3").text
    outcome.select_by_value("kind:no verdict")
    assert count(opened) == "0 of 6 groups"
    assert "No group" in opened.find_element(By.ID, "group").text
    opened.find_element(By.CSS_SELECTOR, "#filters button").click()
    opened.execute_async_script("setTimeout(arguments[0])")
    assert count(opened) == "6 of 6 groups"
    assert new_console_lines(opened) == []


def test_words_find_questions_and_sql(opened):
    text = opened.find_element(By.ID, "filter-text")
    text.send_keys("number 0")
    wait_for_count(opened, "3 of 6 groups")
    text.clear()
    wait_for_count(opened, "6 of 6 groups")
    text.send_keys("SELEC", Keys.SPACE, "q1")
    wait_for_count(opened, "3 of 6 groups")
    text.send_keys("x")
    wait_for_count(opened, "0 of 6 groups")


def test_a_group_shows_candidates_and_their_rows_beside_the_golds(opened):
    shown_groups(opened)[4].click()
    candidates = opened.find_elements(By.CSS_SELECTOR, ".candidate")
    assert [one.find_element(By.CSS_SELECTOR, ".times").text for one in candidates] == ["3 \u00d7", "13 \u00d7"]
    assert "match" in candidates[0].text and "reward 1" in candidates[0].text
    own, gold = candidates[1].find_elements(By.CSS_SELECTOR, ".pair table")
    assert own.text.split() == ["name", "pen", "cup", "'12'"]
    assert gold.text.split() == ["count(*)", "3"]
    assert own.location["x"] < gold.location["x"] and own.location["y"] == gold.location["y"]
    schema = opened.find_element(By.XPATH, "//details[summary='Schema']")
    schema.find_element(By.TAG_NAME, "summary").click()
    assert "CREATE TABLE item" in schema.text


def test_keys_alone_move_through_the_groups(opened):
    opened.find_element(By.ID, "filter-text").send_keys(Keys.TAB, Keys.TAB)
    focused = opened.switch_to.active_element
    assert focused == shown_groups(opened)[0]
    focused.send_keys(Keys.ARROW_DOWN)
    focused = opened.switch_to.active_element
    assert focused == shown_groups(opened)[1]
    assert focused.get_attribute("aria-current") == "true"
    assert "number 1" in opened.find_element(By.CSS_SELECTOR, "#group h3").text
    focused.send_keys(Keys.ARROW_UP, Keys.ARROW_UP)
    assert opened.switch_to.active_element == shown_groups(opened)[0]


def test_what_got_better_opens_with_both_answers(opened):
    summary = opened.find_element(By.CSS_SELECTOR, "#gained summary")
    summary.click()
    change = opened.find_element(By.CSS_SELECTOR, "#gained details[open]")
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    assert "Before" in change.text and "After" in change.text
    assert len(opened.find_elements(By.CSS_SELECTOR, "#gained .change")) == 2
    assert len(opened.find_elements(By.CSS_SELECTOR, "#lost .change")) == 1


@pytest.mark.parametrize("width", [NARROW, 1280])
def test_no_width_needs_scrolling_sideways(opened, width):
    set_width(opened, width)
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_dark_page_is_dark_in_its_figures_too(opened):
    light = opened.find_element(By.CSS_SELECTOR, ".plot .ytitle").value_of_css_property("fill")
    try:
        set_dark(opened, True)
        opened.execute_async_script("setTimeout(arguments[0], 300)")
        body = opened.find_element(By.TAG_NAME, "body")
        assert body.value_of_css_property("background-color") == "rgba(20, 23, 28, 1)"
        assert opened.find_element(By.CSS_SELECTOR, ".plot .ytitle").value_of_css_property("fill") != light
    finally:
        set_dark(opened, False)


def test_hostile_text_is_shown_and_not_run(chrome, tmp_path):
    folder = hostile_run(tmp_path / "run")
    report(folder, None, opens=False)
    new_console_lines(chrome)
    chrome.get((folder / "report.html").as_uri())
    assert chrome.execute_script("return window.hacked") is None
    assert chrome.find_elements(By.TAG_NAME, "img") == []
    assert "<img src=x onerror=window.hacked=1>" in chrome.find_element(By.ID, "group").text
    chrome.find_element(By.CSS_SELECTOR, "#gained summary").click()
    chrome.execute_async_script("setTimeout(arguments[0], 50)")
    assert chrome.execute_script("return window.hacked") is None
    assert new_console_lines(chrome) == []


def test_markup_that_got_in_all_the_same_would_not_run(chrome, page, tmp_path):
    """The second line of defence: the document's own policy."""
    html = Path(page.removeprefix("file://")).read_text()
    attack = "<img src=x onerror='window.hacked=1'><script>window.hacked=2</script>"
    (tmp_path / "attacked.html").write_text(html.replace("</main>", f"{attack}</main>"))
    chrome.get((tmp_path / "attacked.html").as_uri())
    assert chrome.find_elements(By.TAG_NAME, "img") != []
    assert chrome.execute_script("return window.hacked") is None
    assert "Content Security Policy" in " ".join(new_console_lines(chrome))
