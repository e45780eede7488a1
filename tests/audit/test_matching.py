import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.matching import Matches, best_frame_pairs

# Gallery: clip 0 with frames 0 and 8, clip 1 with frame 4.
GALLERY = {"gallery_clip": np.array([0, 0, 1]), "gallery_frame": np.array([0, 8, 4])}


def found(similarity: list[float], rows: list[int], clips: list[int], frames: list[int]) -> Matches:
    return best_frame_pairs(
        np.array(similarity, np.float32),
        np.array(rows, np.int64),
        query_clip=np.array(clips, np.int64),
        query_frame=np.array(frames, np.int64),
        **GALLERY,
    )


def test_the_best_frame_of_a_clip_speaks_for_it() -> None:
    matches = found([0.5, 2.0, 1.0, -3.0], [0, 2, 1, 1], clips=[0, 0, 0, 1], frames=[0, 5, 10, 7])
    assert matches.p_max.tolist() == [2.0, -3.0]
    assert matches.nearest.tolist() == [1, 0]
    assert matches.query_frame.tolist() == [5, 7]
    assert matches.gallery_frame.tolist() == [4, 8]
    assert matches.p_max.dtype == np.float64


def test_of_equal_frames_the_earlier_counts() -> None:
    matches = found([1.0, 1.0, 0.0], [2, 1, 0], clips=[0, 0, 0], frames=[3, 6, 9])
    assert (matches.query_frame[0], matches.nearest[0]) == (3, 1)


def test_one_frame_each_is_passed_through() -> None:
    matches = found([3.0, -1.0], [1, 2], clips=[0, 1], frames=[0, 0])
    assert matches.p_max.tolist() == [3.0, -1.0]
    assert matches.nearest.tolist() == [0, 1]


def test_no_query_no_match() -> None:
    assert len(found([], [], clips=[], frames=[]).p_max) == 0


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_it_is_the_maximum_over_each_clips_frames(clips: list[list[int]], data: st.DataObject) -> None:
    flat = [float(value) for clip in clips for value in clip]
    rows = data.draw(st.lists(st.integers(0, 2), min_size=len(flat), max_size=len(flat)))
    number = [i for i, clip in enumerate(clips) for _ in clip]
    frame = [j for clip in clips for j in range(len(clip))]
    matches = found(flat, rows, number, frame)
    for i, clip in enumerate(clips):
        best = clip.index(max(clip))
        row = rows[number.index(i) + best]
        assert matches.p_max[i] == max(clip)
        assert matches.query_frame[i] == best
        assert (matches.nearest[i], matches.gallery_frame[i]) == ([0, 0, 1][row], [0, 8, 4][row])
