from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from mnemoscope.cli import demo as demo_file
from mnemoscope.cli.demo import DemoConfig, TruthBesideFinding, beside_truth
from mnemoscope.core.types import Estimate, SetSize
from mnemoscope.phantom.plants import truth_path
from tests.cli.conftest import Call

FOUND = SimpleNamespace(
    samples=pd.DataFrame(
        {
            "clip_id": list("abcdefgh"),
            "nearest_clip_id": ["t1", "t9", "t3", "t1", "t2", "t5", "t1", "t1"],
            "nearest_patient_id": ["p1", "p2", "p9", "p1", "p2", "p9", "p1", "p1"],
            "flagged": [True, True, False, True, False, False, True, False],
        }
    ),
    holdout=pd.DataFrame({"flagged": [True, False, False]}),
    patients=pd.DataFrame({"learned": [True, True, False]}),
    result=SimpleNamespace(
        sets={"train": SetSize(20, 10)}, recall=SimpleNamespace(known_share=Estimate(0.35, 0.2, 0.5))
    ),
)
TRUTH = pd.DataFrame(
    {
        "clip_id": list("hgfedcba"),
        "kind": ["generated", "generated", "partial", "partial", "fresh", "copy", "copy", "copy"],
        "source_clip_id": [None, None, "t5", "t2", None, "t3", "t2", "t1"],
        "source_patient_id": [None, None, "p5", "p2", None, "p3", "p2", "p1"],
        "perturbation": [None, None, None, None, None, "mirror", "none", "none"],
    }
)


def test_truth_beside_the_finding_by_hand() -> None:
    found = beside_truth(FOUND, TRUTH)
    assert found == TruthBesideFinding(
        generated=2,
        generated_flagged=1,
        copies=3,
        copies_flagged=2,
        copies_with_right_clip=2,
        copies_with_right_patient=2,
        fresh=1,
        fresh_flagged=1,
        holdout=3,
        holdout_flagged=1,
        partial=2,
        partial_flagged=0,
        patients_known=4,
        patients_known_share=0.4,
        known_share={"value": 0.35, "low": 0.2, "high": 0.5},
        patients_learned=2,
        partial_of_known_patient=1,
        missed_copies=["c (mirror)"],
    )
    told = demo_file._told(found)
    assert "planted copies found:          2 of 3 (2 by patient, 2 by clip)" in told
    assert "missed: c (mirror)" in told
    assert "false alarms, new patients:    1 of 1" in told
    assert "the generator's own videos:    1 of 2 flagged as too close" in told
    assert "share of patients drawn from:  0.40, measured 0.35 [0.20, 0.50]" in told


def test_a_clip_without_truth_is_not_passed_over() -> None:
    with pytest.raises(pd.errors.MergeError):
        beside_truth(FOUND, pd.concat([TRUTH, TRUTH]))


def test_a_changed_size_keeps_the_rest_of_the_demo(call: Call) -> None:
    done = call("demo", "--set", "phantom.patients=20", "--set", "audit.percentile=90", "--dry-run")
    planned = yaml.safe_load(done.stdout)
    expected = DemoConfig().model_dump(mode="json")
    expected["phantom"]["patients"], expected["audit"]["percentile"] = 20, 90.0
    assert planned == expected


def test_generated_videos_join_the_planted_ones_with_their_list_and_truth(tmp_path: Path) -> None:
    planted, made = tmp_path / "clips", tmp_path / "made"
    for folder in (planted, made):
        (folder / "Videos").mkdir(parents=True)
        pd.DataFrame({"FileName": ["SYN000000"], "EF": [40.0 if folder is made else 60.0]}).to_csv(
            folder / "FileList.csv", index=False
        )
        (folder / "Videos" / "SYN000000.avi").write_text(folder.name)
    pd.DataFrame({"clip_id": ["SYN000000"], "kind": ["copy"]}).to_csv(truth_path(planted), index=False)
    demo_file._add_generated(made, planted)
    assert {path.name: path.read_text() for path in (planted / "Videos").iterdir()} == {
        "SYN000000.avi": "clips",
        "GENSYN000000.avi": "made",
    }
    assert pd.read_csv(planted / "FileList.csv").values.tolist() == [["SYN000000", 60.0], ["GENSYN000000", 40.0]]
    assert pd.read_csv(truth_path(planted)).values.tolist() == [["SYN000000", "copy"], ["GENSYN000000", "generated"]]


@pytest.mark.parametrize(
    ("words", "watched", "opens"),
    [
        ((), False, False),
        ((), True, True),
        (("--no-open",), True, False),
        (("--open",), False, True),
        (("--json",), True, False),
    ],
)
def test_the_report_opens_where_a_person_watches(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], watched: bool, opens: bool
) -> None:
    seen: list[str] = []
    finished = SimpleNamespace(**FOUND.__dict__ | {"result": SimpleNamespace(to_json=dict)})
    monkeypatch.setattr(demo_file, "demo", lambda **_: (finished, beside_truth(FOUND, TRUTH)))
    monkeypatch.setattr(demo_file, "summary", lambda *_: "")
    monkeypatch.setattr(demo_file, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: watched)))
    monkeypatch.setattr(demo_file.webbrowser, "open", seen.append)
    assert call("demo", "--out", tmp_path, *words).exit_code == 0
    assert seen == ([(tmp_path / "audit" / "report.html").as_uri()] if opens else [])
