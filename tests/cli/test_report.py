import re
from pathlib import Path

import pandas as pd
import pytest

import mnemoscope
from mnemoscope.core.types import AuditResult
from tests.cli.conftest import Call
from tests.reference import tiny_audit


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny audit."""
    out = tmp_path_factory.mktemp("report") / "run"
    result = mnemoscope.audit(
        real=clips / "real", synthetic=clips / "synthetic", out=out, config=tiny_audit.settings(altered_frames=0)
    )
    assert isinstance(result, AuditResult)
    return out


def test_the_page_of_a_finished_audit_is_written_again(call: Call, run: Path) -> None:
    first = (run / "report.html").read_text()
    assert first.count("data:image/webp") >= tiny_audit.N_SYNTHETIC
    (run / "report.html").unlink()
    done = call("report", run)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{run / 'report.html'}\n", "")
    second = (run / "report.html").read_text()
    assert second.count("data:image/webp") == first.count("data:image/webp")
    (run / "report.html").unlink()
    assert mnemoscope.report(str(run)) == run / "report.html"
    assert (run / "report.html").read_text() == second


def test_the_map_is_made_once_and_kept(run: Path) -> None:
    kept = run / "map.parquet"
    table = pd.read_parquet(kept)
    assert list(table.columns) == ["clip_id", "set", "x", "y"]
    assert table["set"].value_counts().to_dict() == {"train": 10, "synthetic": tiny_audit.N_SYNTHETIC, "holdout": 6}
    before = kept.stat().st_mtime_ns
    mnemoscope.report(run)
    assert kept.stat().st_mtime_ns == before


def test_the_redacted_page_names_no_real_clip_and_shows_no_picture(call: Call, run: Path) -> None:
    done = call("report", run, "--redacted")
    assert (done.exit_code, done.stdout) == (0, f"{run / 'report-redacted.html'}\n")
    page = (run / "report-redacted.html").read_text()
    clips = pd.read_parquet(run / "latents-real" / "clips.parquet")
    ids = {*clips["clip_id"], *clips["patient_id"]}
    assert len(ids) >= 19
    assert ids & set(re.findall(r"\w+", (run / "report.html").read_text()))
    assert ids & set(re.findall(r"\w+", page)) == set()
    assert "data:image" not in page
    assert str(run.parent) not in page


def test_more_pairs_than_the_page_shows_stand_beside_it(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoscope.cli.report.MOST_PAIRS", 3)
    assert call("report", run, "--pairs", 7).exit_code == 0
    pages = sorted((run / "report-pairs").iterdir())
    assert [page.name for page in pages] == ["000004.html", "000007.html"]
    samples = pd.read_parquet(run / "samples.parquet").sort_values(["p_max", "clip_id"], ascending=[False, True])
    found = [re.findall(r'data-clip="(\w+)"', page.read_text()) for page in (run / "report.html", *pages)]
    assert [clip_id for page in found for clip_id in page] == samples["clip_id"].head(7).tolist()
    assert "Pairs 4 to 6 of 8" in pages[0].read_text().replace("\n", " ")


def test_figures_of_the_paper_are_written_for_each_audit(call: Call, run: Path, tmp_path: Path) -> None:
    done = call("report", run, "--figures", tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert done.exit_code == 0
    assert {"fig3-confusion.png", "fig3-confusion.svg", "fig4-p-max.png", "fig5-map.svg"} <= set(files)
    assert sorted(Path(line).name for line in done.stdout.split()) == files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pairs", "0"], "expected at least one pair to show, got 0 (--pairs)"),
        (["--downstream", "nothing.json"], "nothing.json: expected a readable JSON file"),
    ],
)
def test_options_that_do_not_fit_end_with_2(call: Call, run: Path, words: list[str], message: str) -> None:
    done = call("report", run, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_two_audits_make_no_page(call: Call, run: Path, tmp_path: Path) -> None:
    done = call("report", run, tmp_path)
    assert done.exit_code == 2
    assert "expected one audit for a page, got 2; call mnemoscope compare" in done.stderr
    same = call("report", run, run, "--figures", tmp_path)
    assert same.exit_code == 2
    assert "expected folders of different names" in same.stderr


def test_a_folder_without_an_audit_ends_with_2(call: Call, tmp_path: Path) -> None:
    done = call("report", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"expected a finished audit with audit.json; run mnemoscope audit --out {tmp_path}" in done.stderr
