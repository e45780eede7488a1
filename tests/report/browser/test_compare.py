"""The comparison in a real browser: nothing of it lies beside a narrow window."""

from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from mnemoscope.report.changes import compared, write_changes
from tests.report import full
from tests.report.browser.conftest import opened, size
from tests.report.test_changes import filtered, model


def test_a_narrow_window_shows_what_is_forbidden_and_the_change(browser: Chrome, tmp_path: Path) -> None:
    size(browser, 400, 800)
    results = {f"runs/{'unfiltered' * 6}": full.result(), "runs/filtered": filtered()}
    found = compared(list(results.values()), [model("hash-a", "hash-b")])
    opened(browser, write_changes(results, found, tmp_path / "compare.html"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    tables = browser.find_elements(By.CSS_SELECTOR, "section table, h2 ~ .scroll table")
    assert len(tables) == 2
    for table in tables:
        assert browser.execute_script("return arguments[0].parentNode.scrollWidth", table) <= 400
        cell = table.find_elements(By.TAG_NAME, "td")[-1]
        label = browser.execute_script("return getComputedStyle(arguments[0], '::before').content", cell)
        assert cell.rect["width"] > 250  # its row's whole width
        assert label in ('"forbids comparing: "', '"runs/filtered against the first: "')
