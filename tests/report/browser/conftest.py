"""A real browser, and pages of a full audit to open in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from mnemoscope.report.material import Material, Pair, Portrait
from mnemoscope.report.page import write_report
from mnemoscope.report.pictures import film_uri
from tests.report import full
from tests.report.test_page import HOSTILE, run_record

FLAGS = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage")
PAIRS = 12


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


def film(seed: int) -> str:
    clip = np.random.default_rng(seed).integers(0, 256, (6, 24, 24), dtype=np.uint8)
    return film_uri(clip, clip[::-1])


def pairs(samples: pd.DataFrame) -> list[Pair]:
    closest = samples.sort_values("p_max", ascending=False).head(PAIRS)
    return [
        Pair(
            clip_id=str(row.clip_id),
            train_clip_id=str(row.nearest_clip_id),
            train_patient_id=f"patient-{number:02d}",
            similarity=row.p_max,
            learned_for=number % 3 != 0,
            ssim=row.ssim if row.ssim == row.ssim else None,
            ef=35.0 + 5 * (number % 4),
            stratum=("30–40", "40–50", "40–50", "50–60")[number % 4],
            picture=film(number),
        )
        for number, row in enumerate(closest.itertuples())
    ]


def places(samples: pd.DataFrame, holdout: pd.DataFrame, seed: int = 3) -> pd.DataFrame:
    train = [f"t{i:04d}" for i in range(full.TRAIN)]
    names = {"train": train, "holdout": holdout["clip_id"].tolist(), "synthetic": samples["clip_id"].tolist()}
    table = pd.DataFrame([(clip_id, name) for name, ids in names.items() for clip_id in ids], columns=["clip_id", "set"])
    x, y = np.random.default_rng(seed).normal(size=(2, len(table)))
    return table.assign(x=x, y=y)


def material(**changed: Any) -> Material:
    """A full audit's material, one clip of it with a hostile name."""
    samples, holdout = full.samples(), full.holdout()
    samples.loc[samples["p_max"].idxmax(), "clip_id"] = HOSTILE
    samples["nearest_patient_id"] = samples["nearest_clip_id"]
    where = places(samples, holdout)
    rng = np.random.default_rng(4)
    ladder = [pd.DataFrame({"rung": name, "p_max": rng.normal(7.0 + 2 * rate, 1.0, 200)}) for name, rate in full.RUNG_TPR.items()]
    parts: dict[str, Any] = {
        "result": full.result(),
        "samples": samples,
        "holdout": holdout,
        "patients": full.patients(),
        "record": run_record(),
        "pairs": pairs(samples),
        "missed": [Portrait(clip_id="t7000", patient_id="patient-x", group="EF < 30", picture=film(99))],
        "ladder": pd.concat(ladder, ignore_index=True),
        "places": where,
        "attributes": where[["clip_id", "set"]].assign(ef=np.linspace(15, 75, len(where)), Sex="F"),
        "thumbnails": {("synthetic", HOSTILE): film(0)},
    }
    return Material(**(parts | changed))


@pytest.fixture(scope="session")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of :func:`material`."""
    return write_report(material(), out=tmp_path_factory.mktemp("full"))
