"""The whole chain on a phantom cohort with planted truth, in latent space with the bundled VAE."""

import json
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from mnemoscope.audit.run import AuditConfig, Finished
from mnemoscope.cli.demo import DemoConfig, TruthBesideFinding, demo
from mnemoscope.cli.phantom import PhantomConfig
from mnemoscope.phantom.plants import read_truth, truth_path

pytestmark = pytest.mark.slow

N_COPIES, N_FRESH, N_PARTIAL = 16, 40, 16
PERCENTILE = 98.0
CONFIG = DemoConfig(
    phantom=PhantomConfig(
        patients=180,
        clips_per_patient=2,
        frames=8,
        fps=8.0,
        holdout_share=0.35,
        copies=N_COPIES,
        fresh=N_FRESH,
        partial=N_PARTIAL,
        known_share=0.2,
        variation=0.5,
        seed=11,
    ),
    plants_only=True,
    audit=AuditConfig(percentile=PERCENTILE, seed=11),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def found(out: Path) -> tuple[Finished, TruthBesideFinding]:
    return demo(out=out / "run", config=CONFIG)


@pytest.fixture(scope="module")
def samples(out: Path, found: tuple[Finished, TruthBesideFinding]) -> pd.DataFrame:
    truth = read_truth(truth_path(out / "run" / "synthetic" / "clips"))
    return found[0].samples.merge(truth, on="clip_id", validate="one_to_one").sort_values("p_max", ascending=False)


def test_the_most_similar_clips_are_exactly_the_planted_copies(samples: pd.DataFrame) -> None:
    planted = samples[samples["kind"].isin(["copy", "fresh"])]
    assert set(planted["kind"].head(N_COPIES)) == {"copy"}


def test_every_copy_is_flagged_and_its_patient_is_named(samples: pd.DataFrame) -> None:
    copies = samples[samples["kind"] == "copy"]
    assert len(copies) == N_COPIES
    assert copies["flagged"].all()
    assert (copies["nearest_patient_id"] == copies["source_patient_id"]).all()
    # A patient has two clips; a shifted copy of one may lie as close to the other.
    assert (copies["nearest_clip_id"] == copies["source_clip_id"]).sum() >= N_COPIES - 2


def test_copied_patients_and_no_others_are_leaked_beyond_the_false_alarms(
    samples: pd.DataFrame, found: tuple[Finished, TruthBesideFinding]
) -> None:
    patients = found[0].patients
    leaked = set(patients.loc[patients["leaked"], "patient_id"])
    copied = set(samples.loc[samples["kind"] == "copy", "source_patient_id"])
    alarms = set(samples.loc[(samples["kind"] != "copy") & samples["flagged"], "nearest_patient_id"])
    assert leaked == copied | alarms


def test_false_alarms_fit_the_percentile(found: tuple[Finished, TruthBesideFinding]) -> None:
    finished, truth = found
    above = truth.holdout_flagged
    assert above == pytest.approx((1 - PERCENTILE / 100) * truth.holdout, abs=1)
    null = stats.betabinom(N_FRESH, above + 1, truth.holdout - above)
    assert truth.fresh_flagged <= null.ppf(0.999)
    assert finished.result.privacy is not None


def test_the_verdict_is_fail_and_the_report_says_so(out: Path, found: tuple[Finished, TruthBesideFinding]) -> None:
    assert found[0].result.verdict.status == "fail"
    folder = out / "run" / "audit"
    assert json.loads((folder / "audit.json").read_text())["verdict"]["status"] == "fail"
    page = (folder / "report.html").read_text()
    assert page.count("data:image/webp;base64") >= 20
    assert "not tested" in page.lower()


def test_a_second_call_reuses_every_stage_and_finds_the_same(
    out: Path, found: tuple[Finished, TruthBesideFinding]
) -> None:
    before = (out / "run" / "audit" / "audit.json").read_bytes()
    again = demo(out=out / "run", config=CONFIG)
    record = json.loads((out / "run" / "audit" / "run.json").read_text())
    kept = {name: stage["reused"] for name, stage in record["stages"].items() if stage["key"]}
    assert kept
    assert all(kept.values())
    assert (out / "run" / "audit" / "audit.json").read_bytes() == before
    assert again[1] == found[1]
