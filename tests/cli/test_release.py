import json
from pathlib import Path

import pytest

import mnemoscope
from tests.cli.conftest import Call
from tests.release.audits import Made, make, write_decisions

WHEN = "2026-03-01T14:30:00Z"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path, flagged=("s1",))


def test_from_audit_to_a_verified_folder(call: Call, made: Made, tmp_path: Path) -> None:
    out, chosen = tmp_path / "release", tmp_path / "chosen.csv"
    select = call("release", "select", made.run, "--rule", "recall-small", "--out", chosen)
    assert (select.exit_code, select.stdout.splitlines()[0]) == (
        0,
        f"5 clips chosen by recall-small of 5 usable ones (dropped: 0 withheld, 1 flagged): {chosen}",
    )
    assert "6 by all clips, 5 by the usable ones, 5 by the chosen ones" in select.stdout
    assert "matched recall, chosen clips: 5 clips reach 5.0" in select.stdout
    words = ("release", "export", made.run, "--synthetic", made.clips, "--out", out)
    refused = call(*words)
    assert (refused.exit_code, out.exists()) == (1, False)
    assert "1 clips are flagged and nobody released them: 's1'" in refused.stderr
    done = call(*words, "--select", chosen, "--title", "Echoes", "--dicom")
    assert done.exit_code == 0
    seal = done.stdout.split()[-1]
    verified = call("release", "verify", out, "--seal", seal)
    assert (verified.exit_code, verified.stdout) == (0, f"5 clips in 14 files, all as released; seal {seal}\n")
    (out / "Videos" / "s0.avi").unlink()
    changed = call("release", "verify", out, "--json")
    assert changed.exit_code == 1
    assert json.loads(changed.stdout)["problems"] == ["missing: 'Videos/s0.avi'"]


def test_decisions_release_and_withhold(call: Call, made: Made, tmp_path: Path) -> None:
    path = write_decisions(
        tmp_path / "decisions.csv", f"s1,release,Ann,{WHEN},seen", f"s2,withhold,Ann,{WHEN},odd", "s3,release,,x,"
    )
    words = ("release", "export", made.run, "--synthetic", made.clips, "--decisions", path, "--out", tmp_path / "out")
    wrong = call(*words)
    assert (wrong.exit_code, "2 problems in the decisions" in wrong.stderr) == (2, True)
    write_decisions(path, f"s1,release,Ann,{WHEN},seen", f"s2,withhold,Ann,{WHEN},odd")
    done = json.loads(call(*words, "--json").stdout)
    assert (done["clips"], done["withheld"]) == (5, 1)


def test_the_verbs_are_functions(made: Made, tmp_path: Path) -> None:
    config = mnemoscope.SelectConfig(rule="recall-large")
    found = mnemoscope.release_select(made.run, out=tmp_path / "chosen.csv", config=config)
    done = mnemoscope.release_export(
        made.run, synthetic=made.clips, out=tmp_path / "out", select=tmp_path / "chosen.csv"
    )
    assert done.clips == len(found.clips) == 5
    assert mnemoscope.release_verify(done.out, seal=done.sha256).problems == []


def test_no_audit_and_no_release_end_with_2(call: Call, tmp_path: Path) -> None:
    for words in (
        ("select", tmp_path, "--out", tmp_path / "x.csv"),
        ("export", tmp_path, "--synthetic", tmp_path, "--out", tmp_path / "x"),
        ("verify", tmp_path),
    ):
        done = call("release", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "expected a" in done.stderr


def test_a_plan_writes_nothing(call: Call, tmp_path: Path) -> None:
    select = call("release", "select", "run", "--out", tmp_path / "x.csv", "--dry-run", "--count", 7)
    assert "count: 7" in select.stdout
    export = call("release", "export", "run", "--synthetic", "s", "--out", tmp_path / "x", "--dry-run")
    assert "licence: not stated" in export.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_choice_called_none_is_a_choice(call: Call, made: Made, tmp_path: Path) -> None:
    words = ("release", "select", made.run, "--count", 3, "--ef-prior", "none", "--out", tmp_path / "chosen.csv")
    assert call(*words).exit_code == 0
    assert "ef_prior=none" in (tmp_path / "chosen.csv").read_text()
