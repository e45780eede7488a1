import json
from pathlib import Path

import pandas as pd
import pytest

import mnemoscope
from mnemoscope.audit.run.withdraw import Withdrawal
from mnemoscope.cli import withdraw as verb
from tests.cli.conftest import Call

CLIPS = pd.DataFrame(
    {
        "clip_id": ["s3", "s1"],
        "nearest_clip_id": ["c03", "c04"],
        "nearest_patient_id": ["p03", "p03"],
        "similarity": [5.25, 1.0],
        "flagged": [True, False],
        "reason": ["nearest, above tau", "nearest"],
    }
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the verb passes on; p03 has clips, everybody else has none."""
    asked: list[object] = []

    def answer(run: Path, patients: list[str], *, patient_salt: str | None) -> Withdrawal:
        asked.append((run, patients, patient_salt))
        clips = CLIPS if "p03" in patients else CLIPS.iloc[:0]
        return Withdrawal(patients, train_clips=2, synthetic_clips=8, tau=2.0, clips=clips)

    monkeypatch.setattr(verb, "clips_to_withdraw", answer)
    return asked


def test_the_list_stands_on_stdout(call: Call, asked: list[object], tmp_path: Path) -> None:
    done = call("withdraw", "run", "--patient", "p03", "--csv", tmp_path / "list.csv")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "2 of 8 synthetic clips must go: 2 train clip(s) of p03, tau 2.000"
    assert lines[2].split() == ["s3", "c03", "p03", "5.2500", "True", "nearest,", "above", "tau"]
    assert len(lines) == 4
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "list.csv"), CLIPS)
    assert asked == [(Path("run"), ["p03"], None)]


def test_nothing_to_withdraw_is_said_and_no_error(call: Call, asked: list[object]) -> None:
    done = call("withdraw", "run", "--patient", "a", "--patient", "b", "--patient-salt", "secret")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "0 of 8 synthetic clips must go: 2 train clip(s) of a, b, tau 2.000",
        "nothing must go",
    ]
    assert asked == [(Path("run"), ["a", "b"], "secret")]


@pytest.mark.usefixtures("asked")
def test_json_is_the_list(call: Call) -> None:
    done = json.loads(call("withdraw", "run", "--patient", "p03", "--json").stdout)
    assert done == {
        "patients": ["p03"],
        "train_clips": 2,
        "synthetic_clips": 8,
        "tau": 2.0,
        "clips": CLIPS.to_dict("records"),
    }
    assert mnemoscope.withdraw("run", "p03").clips is CLIPS


@pytest.mark.usefixtures("asked")
def test_the_files_of_a_release_that_must_go_are_listed(call: Call, tmp_path: Path) -> None:
    clips = [{"clip_id": f"s{n}", "files": [f"Videos/s{n}.avi", f"DICOM/s{n}.dcm"]} for n in (1, 2)]
    record = {"schema": "mnemoscope.release/1", "files": {}, "clips": clips}
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    done = call("withdraw", "run", "--patient", "p03", "--release", tmp_path)
    assert done.stdout.splitlines()[-3:] == [f"2 files of {tmp_path} must go", "DICOM/s1.dcm", "Videos/s1.avi"]
    as_json = json.loads(call("withdraw", "run", "--patient", "p03", "--release", tmp_path, "--json").stdout)
    assert as_json["release"] == ["DICOM/s1.dcm", "Videos/s1.avi"]
    refused = call("withdraw", "run", "--patient", "p03", "--release", tmp_path / "no")
    assert (refused.exit_code, "expected a release" in refused.stderr) == (2, True)


def test_no_audit_ends_with_2(call: Call, tmp_path: Path) -> None:
    done = call("withdraw", tmp_path, "--patient", "p03")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected a finished audit" in done.stderr
