from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from mnemoscope.cli import demo as demo_file
from mnemoscope.cli.demo import DemoConfig, TruthBesideFinding, beside_truth
from mnemoscope.core.types import Estimate, SetSize
from tests.cli.conftest import Call

FOUND = SimpleNamespace(
    samples=pd.DataFrame(
        {
            "clip_id": list("abcdef"),
            "nearest_clip_id": ["t1", "t9", "t3", "t1", "t2", "t5"],
            "nearest_patient_id": ["p1", "p2", "p9", "p1", "p2", "p9"],
            "flagged": [True, True, False, True, False, False],
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
        "clip_id": list("fedcba"),
        "kind": ["partial", "partial", "fresh", "copy", "copy", "copy"],
        "source_clip_id": ["t5", "t2", None, "t3", "t2", "t1"],
        "source_patient_id": ["p5", "p2", None, "p3", "p2", "p1"],
        "perturbation": [None, None, None, "mirror", "none", "none"],
    }
)


def test_truth_beside_the_finding_by_hand() -> None:
    found = beside_truth(FOUND, TRUTH)
    assert found == TruthBesideFinding(
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
