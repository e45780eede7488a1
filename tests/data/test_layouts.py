from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.data.dicom import hash_patient_id
from mnemoscope.data.layouts import LAYOUTS, SplitShares, TableColumns, read_layout
from mnemoscope.data.listing import scan
from mnemoscope.data.manifest import validate


def write_table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


def by_id(manifest, column):
    return dict(zip(manifest.clips["clip_id"], manifest.clips[column], strict=True))


@pytest.fixture
def dynamic(tmp_path, write_clip):
    for i in range(4):
        write_clip(tmp_path / "Videos" / f"0X{i}.avi", seed=i)
    write_table(
        tmp_path / "FileList.csv",
        FileName=["0X0", "0X1.avi", "0X2", "0X3"],
        EF=[55.5, 60, 30, 70],
        ESV=[40, 30, 80, 20],
        EDV=[90, 80, 120, 70],
        FrameHeight=[24] * 4,
        FrameWidth=[32] * 4,
        FPS=[25] * 4,
        NumberOfFrames=[8] * 4,
        Split=["TRAIN", "VAL", "TEST", "TRAIN"],
    )
    return tmp_path


def test_echonet_dynamic(dynamic):
    manifest = read_layout(dynamic)
    assert by_id(manifest, "split") == {"0X0": "train", "0X1": "val", "0X2": "holdout", "0X3": "train"}
    assert by_id(manifest, "patient_id") == {f"0X{i}": f"0X{i}" for i in range(4)}
    row = manifest.clips.iloc[0]
    assert (row["ef"], row["esv"], row["edv"], row["fps"], row["n_frames"]) == (55.5, 40, 90, 25, 8)
    assert row["path"] == "Videos/0X0.avi"
    assert manifest.attributes == []
    validate(manifest)


def test_echonet_dynamic_with_patients(dynamic):
    table = pd.read_csv(dynamic / "FileList.csv").assign(PatientID=["007", "8", "9", "007"])
    table.to_csv(dynamic / "FileList.csv", index=False)
    assert by_id(read_layout(dynamic), "patient_id") == {"0X0": "007", "0X1": "8", "0X2": "9", "0X3": "007"}


def test_the_table_wins_over_the_file(dynamic):
    table = pd.read_csv(dynamic / "FileList.csv").assign(NumberOfFrames=[99, None, 8, 8], FPS=[50, None, 25, 25])
    table.to_csv(dynamic / "FileList.csv", index=False)
    clips = read_layout(dynamic).clips
    assert clips["n_frames"].tolist() == [99, 8, 8, 8]
    assert clips["fps"].tolist() == [50, 25, 25, 25]


def test_echonet_synthetic_ignores_the_split_column(dynamic):
    assert set(read_layout(dynamic, layout="echonet-synthetic").clips["split"]) == {"synthetic"}
    assert set(read_layout(dynamic, split="synthetic").clips["split"]) == {"synthetic"}


@pytest.fixture
def pediatric(tmp_path, write_clip):
    for view, folds in {"A4C": range(10), "PSAX": [0, 8, 9]}.items():
        for fold in folds:
            write_clip(tmp_path / view / "Videos" / f"CR{fold}.avi", seed=fold, n_frames=3 + fold)
        write_table(
            tmp_path / view / "FileList.csv",
            FileName=[f"CR{fold}.avi" for fold in folds],
            EF=[60] * len(folds),
            Sex=["F"] * len(folds),
            Age=[7] * len(folds),
            Weight=[20.5] * len(folds),
            Height=[120] * len(folds),
            Split=list(folds),
        )
    return tmp_path


def test_echonet_pediatric(pediatric):
    manifest = read_layout(pediatric)
    splits = by_id(manifest, "split")
    assert [splits[f"A4C/CR{fold}"] for fold in range(10)] == ["train"] * 8 + ["val", "holdout"]
    assert by_id(manifest, "view")["PSAX/CR8"] == "PSAX"
    assert by_id(manifest, "patient_id")["PSAX/CR8"] == "CR8"
    assert manifest.attributes == ["sex", "age", "weight", "body_height"]
    assert by_id(manifest, "body_height")["A4C/CR0"] == 120
    assert by_id(manifest, "n_frames")["A4C/CR5"] == 8
    assert by_id(manifest, "height")["A4C/CR5"] == 24


def test_one_view_of_echonet_pediatric(pediatric):
    manifest = read_layout(pediatric / "PSAX")
    assert set(manifest.clips["view"]) == {"PSAX"}
    assert by_id(manifest, "split") == {"CR0": "train", "CR8": "val", "CR9": "holdout"}


def test_folder_with_a_table(tmp_path, write_clip):
    for i in range(6):
        write_clip(tmp_path / "clips" / f"{i}.mkv", seed=i)
    write_table(tmp_path / "who.csv", clip=[f"{i}.mkv" for i in range(6)], ward=list("aabbcc"), kind=["lung"] * 6)
    columns = TableColumns(table=Path("who.csv"), file="clip", patient="ward")
    manifest = read_layout(tmp_path, table=columns)
    assert by_id(manifest, "patient_id")["clips/3"] == "b"
    assert manifest.attributes == ["kind"]
    assert manifest.clips.groupby("patient_id")["split"].nunique().max() == 1
    assert set(manifest.clips["split"]) == {"train", "val", "holdout"}


def test_folder_finds_its_table_by_usual_headings(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv")
    write_clip(tmp_path / "b.mkv", seed=1)
    write_table(tmp_path / "notes.csv", remark=["no clips here"])
    write_table(tmp_path / "list.csv", file=["a.mkv", "b.mkv"], patient=["p", "p"], split=["train", "train"])
    assert by_id(read_layout(tmp_path), "patient_id") == {"a": "p", "b": "p"}


def test_two_tables_are_doubtful(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv")
    for name in ("one.csv", "two.csv"):
        write_table(tmp_path / name, file=["a.mkv"])
    with pytest.raises(InputError, match=r"one\.csv, two\.csv.*--set table.table"):
        read_layout(tmp_path)


def test_folder_without_table_draws_by_patient_and_seed(tmp_path, write_clip):
    for i in range(20):
        write_clip(tmp_path / f"p{i // 2}" / f"{i}.mkv", seed=i, n_frames=1)
    columns = TableColumns(patient_pattern=r"^(p\d+)/")
    drawn = [
        by_id(read_layout(tmp_path, table=columns, shares=SplitShares(val=0.2, holdout=0.3, seed=seed)), "split")
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert sorted(drawn[0].values()) == ["holdout"] * 6 + ["train"] * 10 + ["val"] * 4


def test_split_folders_are_splits(tmp_path, write_clip):
    for i, split in enumerate(["train", "valid", "Test"]):
        write_clip(tmp_path / split / f"{i}.mkv", seed=i)
    assert by_id(read_layout(tmp_path), "split") == {"train/0": "train", "valid/1": "val", "Test/2": "holdout"}


def test_video_folder(tmp_path, write_clip):
    for split in ("train", "test"):
        write_clip(tmp_path / split / "a.mp4", seed=len(split))
        write_table(tmp_path / split / "metadata.csv", file_name=["a.mp4"], caption=["heart"])
    manifest = read_layout(tmp_path)
    assert by_id(manifest, "split") == {"train/a": "train", "test/a": "holdout"}
    assert manifest.attributes == ["caption"]


def write_dicom(path, patient):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.FrameTime = "Doe^Jane", patient, "20"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 3, 4, 6, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = np.arange(72, dtype=np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_dicom_folder(tmp_path):
    write_dicom(tmp_path / "s1" / "IM_0001", "MRN-1")
    write_dicom(tmp_path / "s1" / "b.dcm", "MRN-1")
    write_dicom(tmp_path / "s2" / "1.2.840.5", "MRN-2")
    manifest = read_layout(tmp_path, split="train")
    assert by_id(manifest, "patient_id") == {"s1/IM_0001": "MRN-1", "s1/b": "MRN-1", "s2/1.2.840.5": "MRN-2"}
    assert manifest.clips[["fps", "n_frames", "height", "width"]].to_numpy().tolist() == [[50, 3, 4, 6]] * 3
    assert "Doe" not in manifest.clips.to_csv()


def test_patients_can_be_hashed(tmp_path):
    write_dicom(tmp_path / "a.dcm", "MRN-1")
    manifest = read_layout(tmp_path, split="train", patient_salt="a long secret")
    assert manifest.clips["patient_id"].tolist() == [hash_patient_id("MRN-1", salt="a long secret")]
    assert "MRN" not in manifest.clips.to_csv()


def test_dicom_without_patient_counts_alone_and_says_so(tmp_path, caplog):
    write_dicom(tmp_path / "a.dcm", "MRN-1")
    write_dicom(tmp_path / "b.dcm", "")
    assert by_id(read_layout(tmp_path, split="train"), "patient_id") == {"a": "MRN-1", "b": "b"}
    assert "1 of 2" in caplog.text


def test_latents(tmp_path):
    for i in range(3):
        torch.save(torch.zeros(5 + i, 4, 2, 2), tmp_path / f"v{i}.pt")
    write_table(tmp_path / "FileList.csv", FileName=["v0.avi", "v1", "v2.pt"], EF=[50, 60, 70], Split=["TRAIN"] * 3)
    manifest = read_layout(tmp_path)
    assert by_id(manifest, "path") == {f"v{i}": f"v{i}.pt" for i in range(3)}
    assert manifest.clips["n_frames"].tolist() == [5, 6, 7]
    assert manifest.clips["ef"].tolist() == [50, 60, 70]


def test_latents_without_table(tmp_path):
    torch.save(torch.zeros(5, 4, 2, 2), tmp_path / "v.pt")
    assert read_layout(tmp_path, split="synthetic").clips["clip_id"].tolist() == ["v"]


def test_absent_and_unreadable_clips_are_kept_for_check(dynamic):
    (dynamic / "Videos" / "0X1.avi").unlink()
    (dynamic / "Videos" / "0X2.avi").write_bytes(b"garbage")
    table = pd.read_csv(dynamic / "FileList.csv").drop(columns=["NumberOfFrames"])
    table.to_csv(dynamic / "FileList.csv", index=False)
    clips = read_layout(dynamic).clips
    assert clips["clip_id"].tolist() == ["0X0", "0X1", "0X2", "0X3"]
    assert clips["n_frames"].isna().tolist() == [False, True, True, False]


def test_the_same_clips_whatever_the_directory_order(dynamic, monkeypatch):
    expected = read_layout(dynamic).clips
    original = scan(dynamic)
    backwards = type(original)(original.root, original.files[::-1])
    monkeypatch.setattr("mnemoscope.data.layouts.scan", lambda _: backwards)
    pd.testing.assert_frame_equal(read_layout(dynamic).clips, expected)


def test_gaps_in_a_patient_column_are_refused(dynamic):
    pd.read_csv(dynamic / "FileList.csv").assign(patient=["p", None, "q", "r"]).to_csv(
        dynamic / "FileList.csv", index=False
    )
    with pytest.raises(InputError, match=r"0X1\.avi: expected a patient_id"):
        read_layout(dynamic)


def test_gaps_and_strangers_in_a_split_column_are_refused(dynamic):
    table = pd.read_csv(dynamic / "FileList.csv").assign(Split=["TRAIN", None, "EXTRA", "TEST"])
    table.to_csv(dynamic / "FileList.csv", index=False)
    with pytest.raises(InputError, match=r"(?s)2 problems.*0X1.*'EXTRA'"):
        read_layout(dynamic)


@pytest.mark.parametrize("layout", ["echonet-dynamic", "echonet-pediatric", "echonet-synthetic", "videofolder"])
def test_layouts_that_need_a_table_say_so(tmp_path, write_clip, layout):
    write_clip(tmp_path / "a.mkv")
    with pytest.raises(InputError, match="name a table"):
        read_layout(tmp_path, layout=layout)


def test_unknown_names_are_refused(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv")
    with pytest.raises(ConfigError, match=r"--layout.*folder"):
        read_layout(tmp_path, layout="bids")
    with pytest.raises(ConfigError, match="--split"):
        read_layout(tmp_path, split="test")


def test_a_layout_without_its_kind_of_file_is_refused(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv")
    with pytest.raises(InputError, match=r"dicom.*--layout"):
        read_layout(tmp_path, layout="dicom")


def test_every_layout_says_what_it_is():
    assert all(layout.read.__doc__ for layout in LAYOUTS.values())


def test_pydicom_files_in_the_house_are_never_written(tmp_path):
    write_dicom(tmp_path / "a.dcm", "MRN-1")
    before = (tmp_path / "a.dcm").read_bytes()
    read_layout(tmp_path, split="train", patient_salt="a long secret")
    assert (tmp_path / "a.dcm").read_bytes() == before
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientID == "MRN-1"
