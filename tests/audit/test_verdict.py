from dataclasses import replace

import pytest

from mnemoscope.audit.verdict import Limits, decide, not_tested
from mnemoscope.core.types import (
    AuditResult,
    Estimate,
    Power,
    Privacy,
    Recall,
    RungPower,
    SetSize,
    Verdict,
    Verification,
)
from mnemoscope.data.ladder import RUNGS

SETS = {"train": SetSize(500, 400), "holdout": SetSize(100, 90), "synthetic": SetSize(50, 50)}
GOOD = Verification(
    space="latent",
    preset="default",
    auc=Estimate(0.99, 0.95, 1.0),
    top1=Estimate(0.9, 0.8, 1.0),
    tpr_at_fpr={},
    accuracy=1.0,
    f1=1.0,
    precision=1.0,
    recall=1.0,
    confusion=((1, 0), (0, 1)),
)
QUIET = Privacy(
    percentile=95.0,
    tau=6.0,
    flagged=3,
    flag_rate=Estimate(0.06, 0.02, 0.16),
    excess_rate=Estimate(0.01, -0.04, 0.06),
    p_value=0.4,
    fdr_rate=0.1,
    fdr_flagged=0,
)
LEAK = replace(QUIET, flagged=20, flag_rate=Estimate(0.4, 0.3, 0.5), excess_rate=Estimate(0.35, 0.2, 0.5), p_value=1e-6)


def power(low: float, *names: str, value: float = 0.9) -> Power:
    """Rungs whose true-positive rate is 0.9 from ``low`` on."""
    tpr = Estimate(value, low, 0.95)
    return {name: RungPower(100, tpr, {}, tpr, 0.03) for name in names or ("exact", "gain", "other_frame")}


def verdict(**changes: object) -> Verdict:
    said = {"sets": SETS, "verification": GOOD, "privacy": QUIET, "power": power(0.8)} | changes
    return decide(**said, not_tested=["labels"])


@pytest.mark.parametrize(
    ("excess", "said"),
    [
        (Estimate(-0.01, -0.04, 0.06), "no more than real clips of other patients would be (p = 0.4, limit 0.01)"),
        (
            Estimate(0.01, -0.04, 0.06),
            "not clearly more than real clips of other patients would be (p = 0.4, limit 0.01)",
        ),
        (
            Estimate(0.077, 0.014, 0.16),
            "not clearly more than real clips of other patients would be, yet the interval of the excess lies above 0: "
            "look at them (p = 0.4, limit 0.01, +7.7% [+1.4%, +16.0%] beyond what innocents show)",
        ),
    ],
)
def test_silence_of_an_instrument_that_hears_is_a_pass(excess: Estimate, said: str) -> None:
    found = verdict(privacy=replace(QUIET, excess_rate=excess))
    assert found.status == "pass"
    assert found.reasons == [f"3 synthetic clips (6.0%) are flagged, {said}"]
    assert found.not_tested == ["labels"]


def test_a_leak_is_a_fail_with_its_size_and_limit() -> None:
    found = verdict(privacy=LEAK)
    assert found.status == "fail"
    assert len(found.reasons) == 1
    for part in ("20 synthetic clips (40.0%)", "+35.0% [+20.0%, +50.0%]", "p = 1e-06, limit 0.01"):
        assert part in found.reasons[0]


DOUBTS = {
    "auc": ({"verification": replace(GOOD, auc=Estimate(0.97, 0.949, 0.99))}, "AUC 0.970 [0.949, 0.990], needed 0.95"),
    "power": (
        {"power": power(0.8) | power(0.7, "gain", "blur", value=0.79)},
        "would miss many copies; of planted ones it flags, by what was done to them: gain, "
        "blur 79.0% [70.0%, 95.0%]; needed 80%",
    ),
    "few copies": (
        {"power": power(0.8) | power(0.796, "gain", value=1.0)},
        "too few copies were planted to say that 80% are flagged: gain 100.0% [79.6%, 95.0%]; plant more",
    ),
    "unmeasured": ({"power": None}, "no rung of the ladder was run"),
    "exact alone": ({"power": power(1.0, "exact", "flip")}, "no rung of the ladder was run"),
    "holdout": ({"sets": SETS | {"holdout": SetSize(99, 90)}}, "only 99 holdout clips; at least 100"),
    "synthetic": ({"sets": SETS | {"synthetic": SetSize(49, 49)}}, "only 49 synthetic clips; at least 50"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_each_doubt_alone_makes_silence_inconclusive(name: str) -> None:
    changes, words = DOUBTS[name]
    found = verdict(**changes)
    assert found.status == "inconclusive"
    assert len(found.reasons) == 1
    assert words in found.reasons[0]


@pytest.mark.parametrize("name", DOUBTS)
def test_a_leak_that_is_seen_is_a_fail_whatever_the_doubt(name: str) -> None:
    changes, words = DOUBTS[name]
    found = verdict(privacy=LEAK, **changes)
    assert found.status == "fail"
    assert "beyond what innocents show" in found.reasons[0]
    assert words in found.reasons[1]


def test_all_doubts_are_told_at_once() -> None:
    changes: dict[str, object] = {name: value for key in DOUBTS for name, value in DOUBTS[key][0].items()}
    changes["sets"] = SETS | {"holdout": SetSize(1, 1), "synthetic": SetSize(1, 1)}
    assert len(verdict(**changes).reasons) == 4


@pytest.mark.parametrize(("p_value", "status"), [(0.01, "fail"), (0.0101, "pass")])
def test_the_limit_itself_is_a_leak(p_value: float, status: str) -> None:
    assert verdict(privacy=replace(LEAK, p_value=p_value)).status == status


def test_a_rate_below_the_innocents_is_no_leak() -> None:
    assert verdict(privacy=replace(LEAK, excess_rate=Estimate(0.0, -0.1, 0.1))).status == "pass"


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(fail_p=0.5), "fail"),
        (Limits(least_auc=0.96), "inconclusive"),
        (Limits(least_power=0.85), "inconclusive"),
        (Limits(least_holdout=101), "inconclusive"),
        (Limits(least_synthetic=51), "inconclusive"),
        (Limits(), "pass"),
    ],
)
def test_each_limit_is_the_one_that_decides(limits: Limits, status: str) -> None:
    assert verdict(limits=limits).status == status


def test_turned_and_mirrored_copies_are_reported_but_not_asked_for() -> None:
    assert verdict(power=power(0.9, *Limits().must_notice) | power(0.1, "flip", "rotation")).status == "pass"


def test_what_must_be_noticed_is_on_the_ladder() -> None:
    assert set(Limits().must_notice) <= set(RUNGS)


def result(**changes: object) -> AuditResult:
    recall = Recall(None, 1, 0.5, 0, [])
    values = {"sets": SETS, "reid": GOOD, "privacy": QUIET, "recall": recall, "verdict": Verdict("pass", [], [])}
    return AuditResult(**values | changes)


def test_there_is_always_something_that_nobody_looked_at() -> None:
    said = not_tested(result(gallery={"query_frames": "all"}))
    for what in ("how a copy must be changed", "sector shape", "hold together", "label says", "pictures of a patient"):
        assert sum(what in line for line in said) == 1


def test_what_was_not_looked_at_says_why_and_what_would_be_missed() -> None:
    weak = power(0.7, "gain", "flip", value=0.75) | power(0.7, "rotation") | {"minimum_detectable_share": 0.02}
    absent = {"labels": "no reader", "power.vae_round_trip": "pixels have no encoder", "power.*.tpr_at_fpr.0.01": "few"}
    said = not_tested(result(power=weak, absent=absent, gallery={"query_frames": 4}))
    assert "whether the videos show the ejection fraction that their label says: no reader" in said
    assert "copies changed by vae round trip: pixels have no encoder" in said
    assert "copies changed by flip: only 75% of planted ones are flagged" in said
    assert "too few copies were planted to speak of changes by rotation 90.0% [70.0%, 95.0%] (--ladder-copies)" in said
    assert not any("gain" in line or "few" in line.partition(": ")[2] for line in said)
    assert any("frames between the 4 of each clip" in line for line in said)


@pytest.mark.parametrize(("synthetic", "holdout", "least"), [(42, 22, 19), (50, 100, 5), (9, 100, None)])
def test_an_empty_list_of_names_says_when_it_could_not_be_otherwise(
    synthetic: int, holdout: int, least: int | None
) -> None:
    """Benjamini–Hochberg by brute force: k clips at the smallest p-value, 1 / (holdout + 1), all others at 1."""
    floor = 1 / (holdout + 1)
    named = [k for k in range(1, synthetic + 1) if any(floor <= 0.1 * j / synthetic for j in range(1, k + 1))]
    assert least == (named[0] if named[0] > 1 else None)
    sets = SETS | {"synthetic": SetSize(synthetic, synthetic), "holdout": SetSize(holdout, holdout)}
    said = [line for line in not_tested(result(sets=sets)) if "by name" in line]
    assert ([f"unless {least} are" in line for line in said] == [True]) if least else said == []
    assert not any("by name" in line for line in not_tested(result(sets=sets, privacy=replace(QUIET, fdr_flagged=2))))
