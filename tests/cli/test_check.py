import json
from pathlib import Path

import pandas as pd
import pytest

import mnemoscope
from tests.cli.conftest import Call
from tests.reference import tiny_audit


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = tiny_audit.write_synthetic(tmp_path / "clips")
    (folder / "s4.avi").write_bytes(b"no video")
    return folder


def test_a_clean_folder_ends_with_0(call: Call, clips: Path) -> None:
    done = call("check", clips / "real", "--percentile", "80")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("19 clips, 0 errors, 0 warnings\n")


def test_an_error_ends_with_1_and_is_named_with_its_remedy(call: Call, damaged: Path) -> None:
    done = call("check", damaged, "--split", "synthetic")
    assert done.exit_code == 1
    line = next(line for line in done.stdout.splitlines() if "s4.avi" in line)
    assert line.startswith("error")
    assert " → " in line
    assert "8 clips, 1 errors" in done.stdout


def test_json_and_csv_are_the_table(call: Call, damaged: Path, tmp_path: Path) -> None:
    csv = tmp_path / "new" / "problems.csv"
    done = call("check", damaged, "--split", "synthetic", "--json", "--csv", csv)
    rows = json.loads(done.stdout)
    assert [row["clip_id"] for row in rows if row["severity"] == "error"] == ["s4"]
    assert pd.read_csv(csv)["kind"].tolist() == [row["kind"] for row in rows]


def test_too_few_innocents_for_the_percentile_are_an_error_unless_none_is_asked_for(call: Call, clips: Path) -> None:
    done = call("check", clips / "real")
    assert done.exit_code == 1
    assert "at least 20 clips for a 95th percentile" in done.stdout
    assert call("check", clips / "real", "--percentile", "none").exit_code == 0
    assert call("check", clips / "real", "--split", "synthetic").exit_code == 0


def test_no_folder_ends_with_2(call: Call, tmp_path: Path) -> None:
    done = call("check", tmp_path / "nowhere")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected a folder, found nothing" in done.stderr


def test_the_same_from_python(damaged: Path) -> None:
    seen: list[tuple[str, int]] = []
    report = mnemoscope.check(
        damaged,
        config=mnemoscope.CheckConfig(split="synthetic"),
        progress=lambda stage, done, total, unit: seen.append((stage, done)),
    )
    assert [problem.clip_id for problem in report.errors] == ["s4"]
    assert seen == [("check", done) for done in range(1, 9)]
