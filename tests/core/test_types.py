import json
from typing import Any

import pytest

from mnemoscope.core.errors import CorruptFile
from mnemoscope.core.types import AuditResult, Estimate, Privacy, Recall, SetSize, TopHit, Verdict, Verification

EMPTY = AuditResult(sets={}, reid=None, privacy=None, recall=None, verdict=Verdict("inconclusive", ["a"], ["b"]))
FULL = AuditResult(
    sets={"train": SetSize(3, 2)},
    reid=Verification(
        space="latent",
        preset="paper",
        auc=Estimate(0.9, 0.8, 1.0),
        top1=Estimate(0.5, 0.4, 0.6),
        tpr_at_fpr={"0.05": Estimate(0.7, 0.6, 0.8), "0.001": None},
        accuracy=0.1,
        f1=0.2,
        precision=0.3,
        recall=0.4,
        confusion=((1, 2), (3, 4)),
    ),
    privacy=Privacy(95.0, 6.0, 7, Estimate(0.1, 0.0, 0.2), Estimate(0.05, -0.1, 0.2), 0.01, 0.1, 2),
    recall=Recall(4.0, 1, 0.5, 0, [TopHit("c", "p", 9)], chao1=Estimate(2.0, 1.0, 3.0)),
    verdict=Verdict("fail", ["a"], ["b"]),
    gallery={"train_frames": "all"},
)


def through_json(result: AuditResult) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(result.to_json(), allow_nan=False))
    return values


@pytest.mark.parametrize("result", [EMPTY, FULL])
def test_a_result_reads_back_as_written(result: AuditResult) -> None:
    assert AuditResult.from_json(through_json(result)) == result


def test_a_stage_that_did_not_run_is_null_and_never_zero() -> None:
    values = through_json(EMPTY)
    absent = ("reid", "privacy", "recall", "power", "consistency", "labels")
    assert {name: values[name] for name in absent} == dict.fromkeys(absent)


def test_an_estimate_has_the_three_keys_of_the_schema() -> None:
    assert through_json(FULL)["reid"]["auc"] == {"value": 0.9, "low": 0.8, "high": 1.0}


@pytest.mark.parametrize("change", [{"verdict": None}, {"sets": {"train": 3}}, {"reid": {"auc": 1}}])
def test_a_damaged_result_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CorruptFile, match=next(iter(change))):
        AuditResult.from_json(through_json(FULL) | change)


def test_an_unknown_verdict_is_refused_in_plain_words() -> None:
    values = through_json(FULL)
    values["verdict"]["status"] = "maybe"
    with pytest.raises(
        CorruptFile, match=r"verdict\.status: expected 'pass', .*, found 'maybe'; run the same"
    ) as caught:
        AuditResult.from_json(values)
    assert "pydantic" not in str(caught.value)


def test_a_result_of_another_schema_is_refused_with_the_remedy() -> None:
    with pytest.raises(CorruptFile, match=r"found mnemoscope\.audit/9; run mnemoscope audit again"):
        AuditResult.from_json(through_json(FULL) | {"schema": "mnemoscope.audit/9"})
