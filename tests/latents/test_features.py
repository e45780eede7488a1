from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import DegenerateValues, InputError, TooFewSamples
from mnemoscope.latents import features
from mnemoscope.latents.features import FrameFeatures, extract_features, strided_frames
from mnemoscope.latents.store import LatentStore
from tests.toys import noise_clips, write_store

COUNTS = (3, 8, 1, 13, 5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return write_store(tmp_path_factory.mktemp("features") / "store", noise_clips(COUNTS))


def corners(frames: np.ndarray) -> np.ndarray:
    """Two features that can be read off a frame."""
    return frames[:, :2, 0, 0].astype(np.float32)


@pytest.mark.parametrize(
    ("n_frames", "count", "offset", "expected"),
    [
        (10, 1, 0.0, [0]),
        (10, 2, 0.0, [0, 5]),
        (10, 4, 0.0, [0, 2, 5, 7]),
        (10, 4, 0.5, [1, 3, 6, 8]),
        (7, 3, 0.0, [0, 2, 4]),
        (7, 3, 0.5, [1, 3, 5]),
        (4, 4, 0.5, [0, 1, 2, 3]),
        (3, 8, 0.0, [0, 1, 2]),
        (1, 1, 0.0, [0]),
        (5, None, 0.0, [0, 1, 2, 3, 4]),
    ],
)
def test_strided_frames_by_hand(n_frames: int, count: int | None, offset: float, expected: Sequence[int]) -> None:
    assert strided_frames(n_frames, count, offset_share=offset).tolist() == list(expected)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.99))
def test_strided_frames_are_distinct_inside_the_clip_and_evenly_spread(n: int, count: int, offset: float) -> None:
    frames = strided_frames(n, count, offset_share=offset)
    assert len(frames) == min(n, count)
    assert 0 <= frames[0] <= frames[-1] < n
    gaps = np.diff(frames)
    assert (gaps >= 1).all()
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@given(st.integers(1, 300), st.integers(1, 150))
def test_frames_in_between_are_none_of_the_others(n: int, count: int) -> None:
    if n >= 2 * count:
        assert not set(strided_frames(n, count)) & set(strided_frames(n, count, offset_share=0.5))


@pytest.mark.parametrize("count", [0, -1])
def test_no_frames_per_clip_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="at least one frame per clip"):
        strided_frames(5, count)


@pytest.mark.parametrize("count", [None, 1, 4])
def test_features_are_those_of_the_chosen_frames(store: LatentStore, count: int | None) -> None:
    found = extract_features(store, store.clips, corners, frames_per_clip=count)
    rows = zip(found.values, found.clip, found.frame, strict=True)
    for value, clip, frame in rows:
        np.testing.assert_array_equal(value, corners(store.clip(store.clips.iloc[clip])[[frame]])[0])
    per_clip = [n if count is None else min(n, count) for n in COUNTS]
    assert np.bincount(found.clip).tolist() == per_clip
    assert (np.diff(found.clip) >= 0).all()


@pytest.mark.parametrize("batch_frames", [1, 2, 7, 1000])
def test_the_batch_size_changes_nothing(store: LatentStore, monkeypatch: pytest.MonkeyPatch, batch_frames: int) -> None:
    expected = extract_features(store, store.clips, corners, frames_per_clip=3)
    monkeypatch.setattr(features, "_BATCH_FRAMES", batch_frames)
    sizes: list[int] = []

    def noting(frames: np.ndarray) -> np.ndarray:
        sizes.append(len(frames))
        return corners(frames)

    found = extract_features(store, store.clips, noting, frames_per_clip=3)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.frame, expected.frame)
    assert (len(sizes) == 1) is (batch_frames == 1000)


def test_clips_of_a_part_are_numbered_within_it(store: LatentStore) -> None:
    found = extract_features(store, store.clips.iloc[[3, 1]], corners, frames_per_clip=2)
    assert found.clip.tolist() == [0, 0, 1, 1]
    assert found.frame.tolist() == [0, 6, 0, 4]
    np.testing.assert_array_equal(found.values[0], corners(store.clip(store.clips.iloc[3])[[0]])[0])


def test_the_offset_reaches_the_frames(store: LatentStore) -> None:
    found = extract_features(store, store.clips.iloc[[3]], corners, frames_per_clip=2, offset_share=0.5)
    assert found.frame.tolist() == [3, 9]


def test_no_clips_are_refused(store: LatentStore) -> None:
    with pytest.raises(TooFewSamples, match="at least one clip"):
        extract_features(store, store.clips[:0], corners, frames_per_clip=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_returns_nan_is_refused(store: LatentStore, value: float) -> None:
    def broken(frames: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(frames))[:, None] == 0, value, corners(frames))

    with pytest.raises(DegenerateValues, match="NaN features"):
        extract_features(store, store.clips, broken, frames_per_clip=2)


def test_a_constant_network_is_refused_and_one_frame_is_not(store: LatentStore) -> None:
    def constant(frames: np.ndarray) -> np.ndarray:
        return np.ones((len(frames), 3), np.float32)

    with pytest.raises(DegenerateValues, match=r"same feature for all 5 frames.*reid\.loop\.epochs"):
        extract_features(store, store.clips, constant, frames_per_clip=1)
    assert len(extract_features(store, store.clips[:1], constant, frames_per_clip=1).values) == 1


def test_rows_must_fit_each_other() -> None:
    with pytest.raises(AssertionError, match="one row"):
        FrameFeatures(np.zeros((2, 3)), np.zeros(2, int), np.zeros(1, int))
