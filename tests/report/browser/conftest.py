"""A real browser, and pages of a full audit to open in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from mnemoscope.report.page import write_report
from tests.report.browser.pages import material

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--hide-scrollbars",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium; where there is none, the tests are skipped and say how to get it."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: install it with `apt-get install chromium chromium-driver` to run these tests")
    options = Options()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(service=Service(driver), options=options)
    downloads = tmp_path_factory.mktemp("downloads")
    found.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    found.downloads = downloads  # type: ignore[attr-defined]
    yield found
    found.quit()


@pytest.fixture(autouse=True)
def _no_errors(browser: Chrome) -> Iterator[None]:
    """Every test ends with a console that has nothing to complain of."""
    size(browser, 1280, 800)
    browser.get_log("browser")
    yield
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def size(browser: Chrome, width: int, height: int) -> None:
    """The window's inside, in CSS pixels."""
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


def opened(browser: Chrome, page: Path) -> Chrome:
    """The browser with the page in it, and nothing kept from an earlier visit."""
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear()")
    browser.get(page.as_uri())
    return browser


@pytest.fixture(scope="session")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of :func:`material`."""
    return write_report(material(), out=tmp_path_factory.mktemp("full"))
