"""Headless Chromium for tests of what floe shows on pages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

LOAD_LIMIT_S = 300  # on a busy machine


@contextmanager
def headless_browser(width: int = 1280, height: int = 1000) -> Iterator[Chrome]:
    """Chromium with its logs on. Skips the test where it is not installed."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium or its driver is missing: 'apt-get install chromium chromium-driver', as set-up does")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in ("headless=new", "disable-gpu", "disable-dev-shm-usage", f"window-size={width},{height}"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    try:
        chrome.set_page_load_timeout(LOAD_LIMIT_S)
        yield chrome
    finally:
        chrome.quit()


def set_width(chrome: Chrome, width: int, height: int = 1000) -> None:
    """Set the width of the page, also below what a window may be."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_dark(chrome: Chrome, is_dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def new_console_lines(chrome: Chrome) -> list[str]:
    """Errors and warnings since the last call."""
    return [line["message"] for line in chrome.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def new_requests(chrome: Chrome) -> set[str]:
    """Return the addresses asked for since the last call, without those in the page itself (`data:`, `blob:`)."""
    messages = [json.loads(line["message"])["message"] for line in chrome.get_log("performance")]
    asked = {one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"}
    return {url for url in asked if not url.startswith(("data:", "blob:"))}
