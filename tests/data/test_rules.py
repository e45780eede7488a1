import pandas as pd
import pytest

from mnemoscope.data.rules import Problem, content_problems, structure_problems

GOOD = {
    "clip_id": ["a", "b", "c"],
    "path": ["a.avi", "b.avi", "c.avi"],
    "patient_id": ["p", "p", "q"],
    "split": ["train", "train", "holdout"],
    "fps": [25.0, 50.0, None],
    "n_frames": [10, 20, None],
    "height": [8, 8, None],
    "width": [8, 8, None],
    "ef": [0.0, 100.0, None],
    "esv": [30.0, 40.0, None],
    "edv": [30.0, 90.0, None],
}


def clips(**columns):
    return pd.DataFrame(GOOD | columns)


def test_a_good_table_has_no_problems():
    assert structure_problems(clips()) == []
    assert content_problems(clips()) == []


@pytest.mark.parametrize(
    ("columns", "kind", "clip_ids"),
    [
        ({"patient_id": ["p", None, ""]}, "empty_cell", ["b", "c"]),
        ({"path": ["a.avi", " ", "c.avi"]}, "empty_cell", ["b"]),
        ({"clip_id": ["a", "a", "b"]}, "duplicate_id", ["a"]),
        ({"split": ["train", "TEST", "holdout"]}, "unknown_split", ["b"]),
    ],
)
def test_breaches_of_structure(columns, kind, clip_ids):
    problems = structure_problems(clips(**columns))
    assert [(p.kind, p.clip_id, p.severity) for p in problems] == [(kind, c, "error") for c in clip_ids]


@pytest.mark.parametrize(
    ("columns", "kind", "clip_ids"),
    [
        ({"patient_id": ["p", "q", "q"]}, "patient_in_two_splits", ["b"]),
        ({"ef": [-0.1, 100.1, 50]}, "ef_out_of_range", ["a", "b"]),
        ({"esv": [31.0, 40.0, None]}, "esv_above_edv", ["a"]),
        ({"fps": [25.0, -1.0, None]}, "impossible_value", ["b"]),
        ({"n_frames": pd.array([0, 20, None], dtype="Int64")}, "impossible_value", ["a"]),
    ],
)
def test_breaches_of_content(columns, kind, clip_ids):
    problems = content_problems(clips(**columns))
    assert [(p.kind, p.clip_id) for p in problems] == [(kind, c) for c in clip_ids]


def test_a_shared_patient_is_told_with_all_clips_and_splits():
    (problem,) = content_problems(clips(patient_id=["p", "p", "p"]))
    assert "patient p" in problem.detail
    assert "holdout: c; train: a, b" in problem.detail


def test_a_problem_reads_as_a_sentence():
    problem = Problem(severity="error", kind="k", file="a.avi", detail="expected 1, found 2", remedy="fix it")
    assert str(problem) == "a.avi: expected 1, found 2; fix it"
