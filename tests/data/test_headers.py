import pandas as pd
import pytest
import torch

from mnemoscope.core.errors import InputError
from mnemoscope.data.dicom import hash_patient_id
from mnemoscope.data.headers import with_headers, with_patients


def test_only_empty_cells_are_filled(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv", n_frames=7, fps=20)
    write_clip(tmp_path / "b.mkv", n_frames=7, fps=20)
    listed = pd.DataFrame({"path": ["a.mkv", "b.mkv"], "fps": [None, "99"], "height": [24, 24]})
    filled = with_headers(listed, root=tmp_path)
    assert filled["fps"].tolist() == [20.0, "99"]
    assert filled[["n_frames", "height", "width"]].to_numpy().tolist() == [[7, 24, 32]] * 2


def test_complete_rows_do_not_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr("mnemoscope.data.headers.probe", lambda _: pytest.fail("opened a file"))
    row = {"path": "a.mkv", "fps": 1, "n_frames": 2, "height": 3, "width": 4, "patient_id": "p"}
    assert with_headers(pd.DataFrame([row]), root=tmp_path)["n_frames"].tolist() == [2]


def test_what_cannot_be_read_stays_empty(tmp_path):
    (tmp_path / "bad.avi").write_bytes(b"garbage")
    torch.save(torch.zeros(6, 4, 2, 2), tmp_path / "good.pt")
    listed = pd.DataFrame({"path": ["bad.avi", "absent.avi", "good.pt"]})
    filled = with_headers(listed, root=tmp_path)
    assert filled["n_frames"].tolist() == [None, None, 6]
    assert filled["height"].isna().all()


def clips(*patients):
    ids = ["a/x", "b/y", "b/z"]
    return pd.DataFrame({"clip_id": ids, "path": [f"{i}.avi" for i in ids], "patient_id": list(patients)})


def test_a_listed_patient_stays_and_its_gaps_too():
    filled = with_patients(clips("p", None, "q"), patients_listed=True, pattern=None, salt=None)
    assert filled["patient_id"].isna().tolist() == [False, True, False]


def test_an_unlisted_patient_is_the_clip():
    filled = with_patients(clips(None, None, None), patients_listed=False, pattern=None, salt=None)
    assert filled["patient_id"].tolist() == ["a/x", "b/y", "b/z"]


def test_a_pattern_wins_and_a_salt_hides():
    filled = with_patients(clips("p", "q", "r"), patients_listed=True, pattern=r"^(\w)/", salt="a long secret")
    assert filled["patient_id"].tolist() == [hash_patient_id(c, salt="a long secret") for c in "abb"]
    with pytest.raises(InputError, match="--patient-salt"):
        with_patients(clips("p", "q", "r"), patients_listed=True, pattern=None, salt="")
