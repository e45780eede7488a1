import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError, InputError, OutOfSpace, TooFewSamples
from mnemoscope.data.manifest import (
    COLUMNS,
    concat_manifests,
    make_manifest,
    of_split,
    read_manifest,
    split_patients,
    validate,
    with_prefix,
    write_manifest,
)

ROOT = Path("/cohort")


def table(n=4, **columns):
    base = {
        "clip_id": [f"c{i}" for i in range(n)],
        "path": [f"c{i}.avi" for i in range(n)],
        "patient_id": [f"p{i}" for i in range(n)],
        "split": ["train"] * n,
    }
    return pd.DataFrame(base | columns)


def test_rows_are_sorted_and_columns_complete():
    manifest = make_manifest(table(4).sample(frac=1, random_state=1).assign(sex="f"), root=ROOT)
    assert list(manifest.clips["clip_id"]) == ["c0", "c1", "c2", "c3"]
    assert tuple(manifest.clips.columns) == (*COLUMNS, "sex")
    assert manifest.attributes == ["sex"]
    assert manifest.files[2] == ROOT / "c2.avi"
    assert len(manifest) == 4


def test_numbers_are_numbers_and_absent_ones_are_empty():
    clips = make_manifest(table(2, fps=["50", None], n_frames=["100", None], ef=[55, 60.5]), root=ROOT).clips
    assert clips["fps"].tolist()[0] == 50.0
    assert np.isnan(clips["fps"][1])
    assert clips["n_frames"].tolist() == [100, pd.NA]
    assert clips["ef"].tolist() == [55.0, 60.5]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_written_is_read_again(tmp_path, suffix):
    clips = table(3, patient_id=["007", "07", "7"], ef=[50.5, None, 60.0], sex=["f", None, "m"], age=[3, 40, 70])
    manifest = make_manifest(clips, root=tmp_path)
    path = tmp_path / f"manifest{suffix}"
    if suffix == ".csv":
        manifest.clips.to_csv(path, index=False)
    else:
        write_manifest(manifest, path)
    back = read_manifest(path)
    pd.testing.assert_frame_equal(back.clips, manifest.clips)
    assert back.root == tmp_path


def test_parquet_remembers_the_root_unless_told_otherwise(tmp_path):
    write_manifest(make_manifest(table(), root=ROOT), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").root == ROOT
    assert read_manifest(tmp_path / "m.parquet", root=tmp_path).files[0] == tmp_path / "c0.avi"


def test_leading_zeros_survive_in_attributes(tmp_path):
    make_manifest(table(2), root=tmp_path).clips.assign(site=["01", "02"], age=["40", "5.5"]).to_csv(
        tmp_path / "m.csv", index=False
    )
    clips = read_manifest(tmp_path / "m.csv").clips
    assert clips["site"].tolist() == ["01", "02"]
    assert clips["age"].tolist() == [40.0, 5.5]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    write_manifest(make_manifest(table(2), root=ROOT), path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OutOfSpace):
        write_manifest(make_manifest(table(3), root=ROOT), path)
    assert len(read_manifest(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_only_parquet_is_written(tmp_path):
    with pytest.raises(InputError, match=r"\.parquet"):
        write_manifest(make_manifest(table(), root=ROOT), tmp_path / "m.csv")


@pytest.mark.parametrize("name", ["absent.parquet", "absent.csv", "garbage.parquet", "empty.csv"])
def test_unreadable_tables_are_named(tmp_path, name):
    (tmp_path / "garbage.parquet").write_bytes(b"garbage")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InputError, match=name):
        read_manifest(tmp_path / name)


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="patient_id, split missing"):
        make_manifest(table()[["clip_id", "path"]], root=ROOT)


def test_text_in_a_number_column_is_refused():
    with pytest.raises(InputError, match="column ef"):
        make_manifest(table(2, ef=["55", "about 60"]), root=ROOT)


def test_all_breaches_of_structure_come_at_once():
    clips = table(
        4, clip_id=["a", "a", "b", "c"], split=["train", "train", "tset", "train"], patient_id=["p", "q", "r", " "]
    )
    with pytest.raises(InputError) as caught:
        make_manifest(clips, root=ROOT)
    for part in ("3 problems", "'a' once, found it 2 times", "'tset'", "expected a patient_id"):
        assert part in str(caught.value)


def test_validate_names_all_problems_at_once():
    clips = table(
        4,
        patient_id=["p", "p", "q", "r"],
        split=["train", "holdout", "train", "val"],
        ef=[50, 101, -1, 60],
        esv=[None, None, 90, 1],
        edv=[None, None, 80, 1],
        fps=[0, 25, 25, 25],
    )
    with pytest.raises(InputError) as caught:
        validate(make_manifest(clips, root=ROOT))
    for part in ("5 problems", "patient p in one split", "101", "-1", "esv 90", "fps above 0"):
        assert part in str(caught.value)


def test_a_synthetic_clip_may_carry_a_real_patient():
    manifest = make_manifest(table(2, patient_id=["p", "p"], split=["train", "synthetic"]), root=ROOT)
    assert validate(manifest) is None


def test_of_split():
    manifest = make_manifest(table(4, split=["train", "val", "holdout", "synthetic"]), root=ROOT)
    assert [of_split(manifest, s).clips["clip_id"].tolist() for s in ("train", "synthetic")] == [["c0"], ["c3"]]
    with pytest.raises(InputError, match="holdout"):
        of_split(manifest, "test")


def test_concat_keeps_every_file(tmp_path):
    real = make_manifest(table(2), root=tmp_path / "real")
    fake = make_manifest(table(2, split=["synthetic"] * 2), root=tmp_path / "fake")
    joint = concat_manifests([real, with_prefix(fake, "synthetic/")])
    assert joint.root == tmp_path
    assert set(joint.files) == {*real.files, *fake.files}
    assert joint.clips["clip_id"].tolist() == ["c0", "c1", "synthetic/c0", "synthetic/c1"]
    with pytest.raises(InputError, match="c0"):
        concat_manifests([real, fake])
    with pytest.raises(InputError, match="none"):
        concat_manifests([])


@given(
    n_patients=st.integers(4, 40),
    clips_each=st.integers(1, 3),
    val_share=st.floats(0, 0.3),
    holdout_share=st.floats(0.01, 0.3),
    seed=st.integers(0, 2**31),
)
def test_patients_are_never_shared_and_shares_are_kept(n_patients, clips_each, val_share, holdout_share, seed):
    patients = [f"p{i}" for i in range(n_patients) for _ in range(clips_each)]
    manifest = make_manifest(table(len(patients), patient_id=patients), root=ROOT)
    drawn = split_patients(manifest, val_share=val_share, holdout_share=holdout_share, seed=seed).clips
    assert drawn.groupby("patient_id")["split"].nunique().max() == 1
    count = drawn.groupby("split")["patient_id"].nunique()
    assert count.get("holdout", 0) == max(1, round(holdout_share * n_patients))
    assert count.get("val", 0) == (max(1, round(val_share * n_patients)) if val_share > 0 else 0)


def test_the_draw_depends_on_the_seed_and_not_on_rows():
    clips = table(60)
    shuffled = clips.sample(frac=1, random_state=3).assign(clip_id=lambda t: "x" + t["clip_id"][::-1].to_numpy())
    shares = {"val_share": 0.2, "holdout_share": 0.3}

    def drawn(clips, seed):
        rows = split_patients(make_manifest(clips, root=ROOT), seed=seed, **shares).clips
        return dict(zip(rows["patient_id"], rows["split"], strict=True))

    assert drawn(clips, 0) == drawn(shuffled, 0)
    assert drawn(clips, 0) != drawn(clips, 1)


def test_synthetic_clips_stay_synthetic():
    manifest = make_manifest(table(10, split=["synthetic"] * 4 + ["train"] * 6), root=ROOT)
    drawn = split_patients(manifest, val_share=0.2, holdout_share=0.4, seed=0).clips
    assert (drawn["split"] == "synthetic").tolist() == [True] * 4 + [False] * 6


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.5, 0.5), (0.0, 1.0)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ConfigError, match="--holdout-share"):
        split_patients(make_manifest(table(), root=ROOT), val_share=shares[0], holdout_share=shares[1], seed=0)


def test_too_few_patients_are_refused():
    with pytest.raises(TooFewSamples, match=r"--set table\.table"):
        split_patients(make_manifest(table(2), root=ROOT), val_share=0.1, holdout_share=0.1, seed=0)
