from pathlib import Path

import pandas as pd
import pytest

from mnemoscope.data.examine import ClipFacts
from mnemoscope.data.findings import clip_problems, duplicate_problems, mixture_problems
from mnemoscope.data.manifest import make_manifest


def one_clip(**columns):
    row = {"clip_id": "c", "path": "c.avi", "patient_id": "p", "split": "train"} | columns
    return make_manifest(pd.DataFrame([row]), root=Path("/cohort"))


WELL = {"n_frames": 5, "height": 8, "width": 9, "fingerprint": "f"}


@pytest.mark.parametrize(
    ("facts", "kinds"),
    [
        (ClipFacts(**WELL), []),
        (ClipFacts(present=False), ["absent"]),
        (ClipFacts(error="broken"), ["unreadable"]),
        (ClipFacts(error="broken", n_frames=3), ["truncated"]),
        (ClipFacts(), ["empty"]),
        (ClipFacts(**WELL, cut_short="too short"), ["truncated"]),
        (ClipFacts(**WELL, n_damaged=1), ["damaged"]),
        (ClipFacts(**WELL, flat=True, frozen=True), ["constant"]),
        (ClipFacts(**WELL, frozen=True, nan=True), ["not_finite", "frozen"]),
    ],
)
def test_facts_become_problems(facts, kinds):
    assert [p.kind for p in clip_problems(one_clip(), {"c": facts})] == kinds


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"n_frames": 5, "height": 8, "width": 9}, []),
        ({"n_frames": 4}, ["frame_count"]),
        ({"height": 9, "width": 8}, ["frame_size"]),
        ({"height": 9}, []),
        ({"path": "c.pt", "height": 64, "width": 72}, []),
    ],
)
def test_the_table_against_the_file(columns, kinds):
    assert [p.kind for p in clip_problems(one_clip(**columns), {"c": ClipFacts(**WELL)})] == kinds


def test_damaged_clips_are_not_compared_with_the_table():
    facts = ClipFacts(n_frames=3, height=8, width=9, error="broken")
    assert [p.kind for p in clip_problems(one_clip(n_frames=5), {"c": facts})] == ["truncated"]


def test_one_clip_is_no_copy_and_no_mixture():
    facts = {"c": ClipFacts(**WELL)}
    assert list(duplicate_problems(one_clip(fps=25), facts)) == []
    assert list(mixture_problems(one_clip(fps=25), facts)) == []
