import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError, OutputConflict
from mnemoscope.phantom.cohort import CohortSpec, clips, new_folder, patient, render, spread, write_cohort

SMALL = CohortSpec(n_patients=5, clips_per_patient=2, n_frames=3, seed=11, val_share=0.2, holdout_share=0.2)


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def double(value: int) -> int:
    return 2 * value


@settings(deadline=None)
@given(
    n_patients=st.integers(1, 40),
    clips_per_patient=st.integers(1, 3),
    val_share=st.floats(0.0, 0.4),
    holdout_share=st.floats(0.0, 0.4),
    seed=st.integers(0, 99),
)
def test_splits_are_patient_disjoint_and_of_the_size_asked_for(
    n_patients, clips_per_patient, val_share, holdout_share, seed
):
    spec = CohortSpec(
        n_patients=n_patients,
        clips_per_patient=clips_per_patient,
        val_share=val_share,
        holdout_share=holdout_share,
        seed=seed,
    )
    table = pd.DataFrame([vars(clip) for clip in clips(spec)])
    assert len(table) == n_patients * clips_per_patient
    assert table["clip_id"].is_unique
    assert list(table["clip_id"]) == sorted(table["clip_id"])
    assert (table.groupby("patient_id")["split"].nunique() == 1).all()
    sizes = table.groupby("split")["patient_id"].nunique()
    assert sizes.get("holdout", 0) == round(holdout_share * n_patients)
    assert sizes.get("val", 0) == round(val_share * n_patients)


def test_a_clip_is_named_by_view_patient_and_recording():
    last = clips(CohortSpec(n_patients=13, clips_per_patient=2))[-1]
    assert (last.clip_id, last.patient_id, last.patient_index, last.clip_index) == ("A4C000012_1", "A4C000012", 12, 1)


def test_the_split_depends_on_the_seed():
    one, two = ([c.split for c in clips(CohortSpec(n_patients=60, seed=seed))] for seed in (0, 1))
    assert one != two


def test_a_patient_does_not_depend_on_the_size_of_the_cohort():
    few, many = CohortSpec(n_patients=3), CohortSpec(n_patients=300)
    np.testing.assert_array_equal(patient(few, 2).scores, patient(many, 2).scores)


def test_clips_of_a_patient_share_the_heart_and_differ_in_the_recording():
    first, second, stranger = (render(SMALL, clips(SMALL)[index]) for index in (0, 1, 2))
    assert (first.ef, first.edv) == (second.ef, second.edv)
    assert first.ef != stranger.ef
    assert not np.array_equal(first.frames, second.frames)


def test_seed_view_patient_and_clip_each_change_the_frames():
    base = render(SMALL, clips(SMALL)[0]).frames
    np.testing.assert_array_equal(base, render(SMALL, clips(SMALL)[0]).frames)
    for other in (CohortSpec(n_frames=3, seed=12), CohortSpec(n_frames=3, seed=11, view="psax")):
        assert not np.array_equal(base, render(other, clips(other)[0]).frames)


def test_the_folder_is_echonets_and_does_not_depend_on_workers(tmp_path):
    one, two = (write_cohort(SMALL, tmp_path / f"w{workers}", workers=workers) for workers in (1, 2))
    assert contents(one) == contents(two)
    table = pd.read_csv(one / "FileList.csv")
    columns = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split,PatientID"
    assert ",".join(table.columns) == columns
    assert {path.stem for path in (one / "Videos").glob("*.avi")} == set(table["FileName"])
    assert set(table["Split"]) == {"TRAIN", "VAL", "TEST"}
    np.testing.assert_allclose(table["EF"], 100.0 * (1.0 - table["ESV"] / table["EDV"]), atol=0.01)
    assert set(table["NumberOfFrames"]) == {3}


def test_the_files_hold_the_frames_rendered(tmp_path):
    av = pytest.importorskip("av")
    folder = write_cohort(SMALL, tmp_path / "out", workers=1)
    clip = clips(SMALL)[3]
    with av.open(str(folder / "Videos" / f"{clip.clip_id}.avi")) as container:
        decoded = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    error = decoded.astype(float) - render(SMALL, clip).frames
    assert np.sqrt(np.mean(error**2)) < 3.0


def test_the_pediatric_layout_has_folds_and_people(tmp_path):
    spec = CohortSpec(view="psax", n_patients=10, n_frames=1, val_share=0.2, holdout_share=0.2)
    write_cohort(spec, tmp_path / "ped", workers=1, layout="pediatric")
    table = pd.read_csv(tmp_path / "ped" / "PSAX" / "FileList.csv")
    assert ",".join(table.columns) == "FileName,EF,Sex,Age,Weight,Height,Split,PatientID"
    assert all((tmp_path / "ped" / "PSAX" / "Videos" / name).is_file() for name in table["FileName"])
    assert (table["Split"] == 8).sum() == (table["Split"] == 9).sum() == 2
    assert set(table["Split"]) <= set(range(10))
    assert table["Age"].between(0, 18).all()
    assert np.corrcoef(table["Height"], table["Weight"])[0, 1] > 0.6


def test_adults_have_no_pediatric_layout(tmp_path):
    with pytest.raises(ConfigError, match=r"ped_a4c, psax, got 'a4c'.*--layout dynamic"):
        write_cohort(SMALL, tmp_path / "out", layout="pediatric")
    assert not (tmp_path / "out").exists()


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--layout"):
        write_cohort(SMALL, tmp_path / "out", layout="camus")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputConflict, match="--out"):
        write_cohort(SMALL, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_broken_off_write_leaves_nothing(tmp_path):
    def broken_off() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "half.avi").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"view": "plax"}, "--view"),
        ({"n_patients": 0}, "--patients"),
        ({"clips_per_patient": 0}, "--clips-per-patient"),
        ({"n_frames": 0}, "--frames"),
        ({"fps": 0.0}, "--fps"),
        ({"val_share": -0.1}, "--val-share"),
        ({"holdout_share": float("nan")}, "--holdout-share"),
        ({"val_share": 0.5, "holdout_share": 0.5}, "--holdout-share"),
    ],
)
def test_a_wrong_cohort_is_refused_with_the_flag(wrong, message):
    with pytest.raises(ConfigError, match=message):
        CohortSpec(**wrong)


@pytest.mark.parametrize("workers", [1, 2])
def test_work_is_spread_in_order(workers):
    assert spread(double, list(range(7)), workers=workers) == [0, 2, 4, 6, 8, 10, 12]


def test_no_worker_is_no_work():
    with pytest.raises(ConfigError, match="--workers"):
        spread(double, [1], workers=0)
