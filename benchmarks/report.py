"""The report of an audit of 100,000 synthetic and 7,465 train clips: seconds to write, size, seconds to open."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.audit import SYNTHETIC, TRAIN, given
from benchmarks.rows import Row
from mnemoscope.audit.run.assess import Assessed, Clips, assess
from mnemoscope.audit.run.results import Finished, write_audit
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.stages import SetFeatures
from mnemoscope.audit.run.tables import patient_table, query_table
from mnemoscope.audit.run.verify import verification
from mnemoscope.audit.verdict import decide
from mnemoscope.cli.report import report
from mnemoscope.core.files import write_json
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import AuditResult, SetSize
from mnemoscope.data.manifest import make_manifest, write_manifest
from mnemoscope.models.reid import ReidModel
from mnemoscope.phantom.cohort import CohortSpec, write_cohort
from mnemoscope.report.place import kept_map

FRAMES, FPS, VIDEOS = 32, 20.0, 120
LIMIT_S, LIMIT_MB, LIMIT_OPEN_S = 60.0, 25.0, 3.0


def run() -> list[Row]:
    """Makes the folder of such an audit, writes its report and opens it in headless Chromium."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        record = make_run(folder)
        map_s, map_cpu_s = _timed(lambda: kept_map(folder, record, seed=0))
        page_s, page_cpu_s = _timed(lambda: report(folder))
        size_mb = (folder / "report.html").stat().st_size / 1e6
        name = f"report of {SYNTHETIC:,} × {TRAIN:,}"
        cpu = f"{map_cpu_s + page_cpu_s:.0f} s of processor time; the map alone takes {map_s:.0f} s and is kept"
        rows = [
            Row(name=f"{name}: written", value=map_s + page_s, unit="s", target=LIMIT_S, note=cpu),
            Row(
                name=f"{name}: size", value=size_mb, unit="MB", target=LIMIT_MB, note="one file, gallery and map in it"
            ),
        ]
        return [*rows, *_opened(folder / "report.html", name)]


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def make_run(folder: Path) -> dict[str, object]:
    """A folder as an audit of that size leaves it, from features that are given; returns its record."""
    features, clips, model = given()
    config = AuditConfig(evidence_pairs=0)
    run = Run(folder, command="audit", identity={}, config=config.model_dump(mode="json"), seed=0)
    write_audit(folder, _finished(features, clips, model, config), csv=False)
    run.stage("features", {}, lambda place: _keep(features, place))
    model.save(folder / "reid" / "model")
    write_cohort(CohortSpec(n_patients=VIDEOS, n_frames=FRAMES, fps=FPS), folder / "cohort", workers=1)
    videos = sorted((folder / "cohort").rglob("*.avi"))
    for name, parts in (("real", ("train", "holdout")), ("synthetic", ("synthetic",))):
        _write_clips(folder, name, {part: getattr(clips, part) for part in parts}, videos)
    run.write(status="done")
    return run.record()


def _finished(features: SetFeatures, clips: Clips, model: ReidModel, config: AuditConfig) -> Finished:
    found = assess(features, clips, model.network.search_head(), config=config)
    sets = {name: SetSize(len(table), len(table)) for name, table in vars(clips).items()}
    reid = verification(features.verification, clips.holdout, model, seed=0, absent=found.absent)
    verdict = decide(sets, reid, found.privacy, None, not_tested=["a benchmark tests nothing"])
    result = AuditResult(
        sets=sets, reid=reid, privacy=found.privacy, recall=found.recall, verdict=verdict, absent=found.absent
    )
    tables = {name: _table(found, clips, name) for name in ("synthetic", "holdout")}
    return Finished(result, tables["synthetic"], tables["holdout"], patient_table(found.ledger), None, None)


def _table(found: Assessed, clips: Clips, name: str) -> pd.DataFrame:
    compared = found.compared
    return query_table(
        getattr(clips, name),
        clips.train,
        getattr(compared, name),
        p_max_holdout=compared.holdout.p_max,
        tau=found.privacy.tau,
        gate=found.gate,
        exchangeable=name == "holdout",
    ).assign(ssim=np.nan)


def _keep(features: SetFeatures, place: Path) -> None:
    for name, part in vars(features).items():
        np.savez(place / f"{name}.npz", **{key: value for key, value in vars(part).items() if value is not None})


def _write_clips(folder: Path, name: str, tables: dict[str, pd.DataFrame], videos: list[Path]) -> None:
    """The manifest and the clip table of one side; its clips share the videos that there are."""
    both = pd.concat([table.assign(split=split) for split, table in tables.items()], ignore_index=True)
    files = [str(videos[i % len(videos)].relative_to(folder)) for i in range(len(both))]
    manifest = make_manifest(both.assign(path=files, fps=FPS, n_frames=FRAMES), root=folder)
    for place in (folder / f"check-{name}", folder / f"latents-{name}"):
        place.mkdir()
    write_manifest(manifest, folder / f"check-{name}" / "manifest.parquet")
    manifest.clips.to_parquet(folder / f"latents-{name}" / "clips.parquet")
    write_json(folder / f"check-{name}" / "stage.json", {})


def _opened(page: Path, name: str) -> list[Row]:
    """Seconds until the page is loaded, its scripts have run and its map is drawn; no row without a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return []
    from selenium.webdriver import Chrome
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader", "--window-size=1280,800"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(service=Service(driver), options=options)
    try:
        browser.get(page.as_uri())
        ready_ms = browser.execute_async_script(
            """const done = arguments[0], timing = performance.getEntriesByType("navigation")[0];
            const look = () => {
              const [map] = performance.getEntriesByName("map");
              if (!map || !timing.loadEventEnd) return setTimeout(look, 10);
              done(Math.max(timing.loadEventEnd, map.startTime));
            };
            look();"""
        )
        severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    finally:
        browser.quit()
    note = "headless Chromium, drawn in software: loaded, scripts run, map drawn"
    return [
        Row(name=f"{name}: opens", value=ready_ms / 1000, unit="s", target=LIMIT_OPEN_S, note=note),
        Row(name=f"{name}: console errors", value=len(severe), unit="", target=0, note=""),
    ]
