from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES, Finished
from mnemoscope.core.files import write_json
from mnemoscope.data.transform import FrameTransform
from mnemoscope.report.gather import MOST_FRAMES, SHOWN_FPS, gather, in_step, over_the_map
from tests.report import full

FPS = st.floats(5.0, 120.0)


def test_matched_frames_stand_together_and_time_runs_alike() -> None:
    one, two, step_s = in_step((20, 40), (10.0, 20.0), (5, 12))
    assert step_s == pytest.approx(0.1)
    # The clips overlap from 0.5 s before the matched frames to 1.35 s after them, in steps of a tenth.
    assert one.tolist() == list(range(19))
    assert two.tolist() == [2 * i + 2 for i in range(19)]
    assert two[one.tolist().index(5)] == 12


def test_no_more_is_shown_than_the_page_has_room_for_and_the_matched_frames_are_in_it() -> None:
    one, two, _ = in_step((500, 500), (15.0, 15.0), (300, 400))
    assert len(one) == len(two) == MOST_FRAMES
    assert (two - one == 100).all()
    assert 300 in one


def test_a_match_at_the_ends_leaves_what_both_clips_have() -> None:
    one, two, _ = in_step((64, 64), (15.0, 15.0), (63, 0))
    assert (one.tolist(), two.tolist()) == ([63], [0])


@given(st.integers(1, 200), st.integers(1, 200), FPS, FPS, st.data())
def test_every_frame_exists_and_the_matched_pair_is_shown(
    n: int, m: int, f: float, g: float, data: st.DataObject
) -> None:
    a, b = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, m - 1))
    one, two, step_s = in_step((n, m), (f, g), (a, b))
    assert 1 <= len(one) == len(two) <= MOST_FRAMES
    assert 0 <= one.min() <= one.max() < n
    assert 0 <= two.min() <= two.max() < m
    assert (a, b) in set(zip(one.tolist(), two.tolist(), strict=True))
    assert step_s >= 1 / SHOWN_FPS - 1e-12
    for shown, rate in ((one, f), (two, g)):
        # A frame stands for the time since the one before it, to within one frame of the file.
        assert (np.abs(np.diff(shown) - step_s * rate) <= 1.0 + 1e-6).all()


def test_exact_copies_come_first_with_the_clip_that_they_are(tmp_path: Path) -> None:
    samples = full.samples().assign(nearest_patient_id="p")
    ranked = samples.sort_values("p_max", ascending=False)["clip_id"].tolist()
    prints = {ranked[0]: "own", ranked[7]: "same", ranked[-1]: "held"}
    for name, found in (("synthetic", prints), ("real", {"t1": "same", "h1": "held", "t2": "other"})):
        (tmp_path / f"check-{name}").mkdir()
        write_json(tmp_path / f"check-{name}" / "fingerprints.json", found)
    for name in (AUDIT, SAMPLES, HOLDOUT, PATIENTS):
        (tmp_path / name).touch()
    finished = Finished(full.result(), samples, full.holdout(), full.patients(), None, None)
    made = gather(tmp_path, finished, {}, FrameTransform(), most_pairs=4)
    assert [pair.clip_id for pair in made.pairs] == [ranked[7], ranked[-1], *ranked[:2]]
    assert [pair.copy_of for pair in made.pairs] == ["t1", "h1", "", ""]


def test_pictures_lie_all_over_the_map_however_few_or_many_clips_there_are() -> None:
    rng = np.random.default_rng(0)
    places = pd.DataFrame(
        {
            "clip_id": [f"c{i}" for i in range(20_000)],
            "set": rng.choice(["train", "holdout", "synthetic"], 20_000, p=[0.1, 0.02, 0.88]),
            "x": rng.normal(size=20_000),
            "y": rng.normal(size=20_000),
        }
    )
    order = list(over_the_map(places))
    assert sorted(order) == sorted(zip(places["set"], places["clip_id"], strict=True))
    begun = places.set_index(["set", "clip_id"]).loc[order[:400]]
    assert begun.groupby("set").size().min() > 50
    quarters = begun.groupby([begun["x"] > 0, begun["y"] > 0]).size()
    assert (quarters > 60).all()
