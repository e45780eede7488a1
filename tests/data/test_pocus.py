"""Real ultrasound of many makers: everything must decode, or be a named problem."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnemoscope.data.checks import check
from mnemoscope.data.layouts import SplitShares, read_layout
from mnemoscope.data.manifest import make_manifest, validate
from mnemoscope.data.video import FrameTransform, read_clip

POCUS = Path(__file__).resolve().parents[3] / "shared" / "real" / "pocus"

pytestmark = pytest.mark.skipif(not POCUS.is_dir(), reason="../shared/real/pocus (124 real clips) is not here")


@pytest.fixture(scope="module")
def manifest():
    return read_layout(POCUS, shares=SplitShares(val=0.1, holdout=0.3, seed=0))


def test_every_clip_is_listed_with_its_patient(manifest):
    table = pd.read_csv(POCUS / "metadata.csv")
    assert len(manifest) == len(table) == 124
    expected = dict(zip(table["file"], table["patient"].astype(str), strict=True))
    assert {Path(r.path).name: r.patient_id for r in manifest.clips.itertuples()} == expected
    assert manifest.clips[["fps", "n_frames", "height", "width"]].notna().all(axis=None)
    validate(manifest)


def test_the_first_frames_of_every_clip_read(manifest):
    transform = FrameTransform(height=112, width=112)
    for file in manifest.files:
        clip = read_clip(file, transform, max_frames=3)
        assert clip.shape == (3, 112, 112)
        assert np.ptp(clip) > 20


@pytest.mark.slow
def test_a_third_of_each_container_decodes_to_its_announced_end(manifest):
    rows = manifest.clips.assign(suffix=manifest.clips["path"].str.lower().str.rsplit(".").str[-1])
    third = make_manifest(rows[rows.groupby("suffix").cumcount() % 3 == 0], root=manifest.root)
    assert third.clips["suffix"].nunique() == 5
    report = check(third, folders=[])
    assert {p.kind for p in report.problems} <= {"mixed_sizes", "mixed_rates"}
    assert all(fact.fingerprint for fact in report.facts.values())
