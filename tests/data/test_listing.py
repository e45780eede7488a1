import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.data.listing import (
    Folder,
    TableColumns,
    clip_ids,
    list_table,
    patients_from_names,
    scan,
    snake_case,
)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_scan_finds_media_at_any_depth_sorted_and_no_hidden_ones(tmp_path):
    touch(tmp_path, "b.avi", "a/c.MP4", "a/z.pt", "note.txt", "a/.d.avi", "._b.avi", ".cache/x.avi", "d.dcm")
    assert scan(tmp_path).files == ("a/c.MP4", "a/z.pt", "b.avi", "d.dcm")


def test_scan_knows_dicom_without_suffix(tmp_path):
    touch(tmp_path, "README", "a.avi")
    (tmp_path / "IM_1").write_bytes(b"\0" * 128 + b"DICM")
    found = scan(tmp_path)
    assert found.files == ("IM_1", "a.avi")
    assert found.of_kind([""]).files == ("IM_1",)


@pytest.mark.parametrize(("name", "found"), [("absent", "nothing"), ("file.txt", "a file"), ("empty", "found none")])
def test_scan_refuses_what_holds_no_clips(tmp_path, name, found):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}.*{found}"):
        scan(tmp_path / name)


def test_ids_are_paths_without_suffix_and_videos_folder():
    assert clip_ids(["Videos/0X1.avi", "A4C/Videos/x.y.mp4", "c.gif", "IM_1"]) == ["0X1", "A4C/x.y", "c", "IM_1"]


def test_ids_keep_what_tells_them_apart():
    assert clip_ids(["a.avi", "a.mp4", "b.avi"]) == ["a.avi", "a.mp4", "b"]
    assert clip_ids(["Videos/a.avi", "a.avi"]) == ["Videos/a.avi", "a.avi"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "Videos/", "p/", "p/videos/"]),
            st.sampled_from("abc"),
            st.sampled_from([".avi", ".mp4", ""]),
        ),
        unique=True,
        max_size=20,
    )
)
def test_ids_are_unique_and_independent_of_order(parts):
    paths = ["".join(part) for part in parts]
    ids = clip_ids(paths)
    assert len(set(ids)) == len(paths)
    assert dict(zip(reversed(paths), clip_ids(paths[::-1]), strict=True)) == dict(
        zip(paths[::-1], ids[::-1], strict=True)
    )


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("FileName", "file_name"),
        ("NumberOfFrames", "number_of_frames"),
        ("EF", "ef"),
        ("PatientID", "patient_id"),
        ("Patient Age (years)", "patient_age_years"),
        (" sex ", "sex"),
    ],
)
def test_snake_case(heading, name):
    assert snake_case(heading) == name


def listed(tmp_path, rows, *, files, columns=None, name="list.csv"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    return list_table(Folder(tmp_path, tuple(files)), tmp_path / name, columns or TableColumns())


def test_usual_headings_become_columns_and_others_attributes(tmp_path):
    rows = {
        "FileName": ["0X1"],
        "EF": [55.5],
        "NumberOfFrames": [80],
        "Sex": ["F"],
        "Height": [170],
        "Batch No.": ["3"],
    }
    table = listed(tmp_path, rows, files=["Videos/0X1.avi"])
    assert table.to_dict("records") == [
        {"path": "Videos/0X1.avi", "n_frames": "80", "ef": "55.5", "sex": "F", "table_height": "170", "batch_no": "3"}
    ]


def test_chosen_headings_win_over_usual_ones(tmp_path):
    rows = {"file": ["wrong"], "clip name": ["a.avi"], "patient": ["x"], "who": ["p1"], "lv": ["40"]}
    columns = TableColumns(file="clip name", patient="who", ef="lv", attributes=())
    table = listed(tmp_path, rows, files=["a.avi"], columns=columns)
    assert table.to_dict("records") == [{"path": "a.avi", "patient_id": "p1", "ef": "40"}]


@pytest.mark.parametrize("field", ["file", "patient", "split", "fps", "ef", "esv", "edv", "view"])
def test_each_chosen_heading_reaches_its_column(tmp_path, field):
    column = {"file": "path", "patient": "patient_id"}.get(field, field)
    rows = {"file": ["b.avi"], "odd heading": ["a.avi"]}
    table = listed(tmp_path, rows, files=["a.avi", "b.avi"], columns=TableColumns(**{field: "odd heading"}))
    assert table[column].tolist() == ["a.avi"]


def test_attributes_can_be_chosen(tmp_path):
    rows = {"file": ["a.avi"], "name": ["Doe"], "sex": ["f"]}
    table = listed(tmp_path, rows, files=["a.avi"], columns=TableColumns(attributes=("sex",)))
    assert table.columns.tolist() == ["path", "sex"]


def test_two_headings_of_one_name_are_both_kept(tmp_path):
    table = listed(tmp_path, {"file": ["a.avi"], "Age": ["1"], "age": ["2"]}, files=["a.avi"])
    assert table[["age", "table_age"]].to_numpy().tolist() == [["1", "2"]]


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        (TableColumns(patient="who"), "who"),
        (TableColumns(attributes=("race",)), "race"),
        (TableColumns(file="clip"), "clip"),
    ],
)
def test_absent_headings_are_named(tmp_path, columns, missing):
    with pytest.raises(InputError, match=f"{missing}, found"):
        listed(tmp_path, {"file": ["a.avi"]}, files=["a.avi"], columns=columns)


def test_a_table_without_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--set table\.file"):
        listed(tmp_path, {"patient": ["p"]}, files=["a.avi"])


def test_names_are_found_wherever_the_files_lie(tmp_path):
    names = ["a.avi", "deep/b.mp4", "sub\\c.gif", "d", "gone.avi", "e.avi"]
    files = ["x/a.avi", "deep/b.mp4", "sub/c.gif", "Videos/d.mkv", "Videos/e.mp4"]
    table = listed(tmp_path, {"file": names}, files=files)
    assert table["path"].tolist() == ["x/a.avi", "deep/b.mp4", "sub/c.gif", "Videos/d.mkv", "gone.avi", "Videos/e.mp4"]


def test_a_table_speaks_of_its_own_folder_only(tmp_path):
    files = ["A4C/Videos/x.avi", "PSAX/Videos/x.avi"]
    table = listed(tmp_path, {"FileName": ["x.avi", "y.avi"]}, files=files, name="PSAX/FileList.csv")
    assert table["path"].tolist() == ["PSAX/Videos/x.avi", "PSAX/y.avi"]


def test_doubtful_names_are_all_reported(tmp_path):
    with pytest.raises(InputError, match=r"a\.avi \(x/a\.avi, y/a\.avi\); b \("):
        listed(tmp_path, {"file": ["a.avi", "b"]}, files=["x/a.avi", "y/a.avi", "b.gif", "b.avi"])


def test_patients_from_names():
    assert patients_from_names(["p1/a.avi", "p22/b.avi"], r"^p(\d+)/") == ["1", "22"]
    with pytest.raises(InputError, match=r"q/b\.avi.*--set table.patient_pattern"):
        patients_from_names(["p1/a.avi", "q/b.avi"], r"^p(\d+)/")
    for pattern in ("(", "p"):
        with pytest.raises(ConfigError, match=r"--set table\.patient_pattern"):
            patients_from_names(["p"], pattern)
