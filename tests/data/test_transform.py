from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.data.clips import TimedFrame
from mnemoscope.data.transform import FrameTransform, fit_frame, place, resample


def block_mean(image, factor):
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return image.reshape(height, factor, width, factor).mean(axis=(1, 3))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_shrinking_is_the_area_mean(height, width, factor, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height * factor, width * factor), dtype=np.uint8)
    small = fit_frame(image, FrameTransform(height=height, width=width, fit="stretch"))
    # Pillow rounds once per axis.
    assert np.abs(small - block_mean(image, factor)).max() <= 1.01


def test_a_fractional_factor_means_whole_pixels():
    image = np.array([[0, 90, 180, 30, 60]], np.uint8)
    half = fit_frame(image, FrameTransform(height=1, width=2, fit="stretch"))
    assert half.tolist() == [[90, 45]]


def test_enlarging_is_bilinear():
    image = np.array([[0, 100]], np.uint8)
    wide = fit_frame(image, FrameTransform(height=1, width=4, fit="stretch"))
    assert wide.tolist() == [[0, 25, 75, 100]]


def test_native_size_passes_unchanged(rng):
    image = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    assert np.array_equal(fit_frame(image, FrameTransform(height=5, width=7)), image)


@given(*(st.integers(1, 300) for _ in range(4)))
def test_letterbox_keeps_proportions_and_stays_inside(source_height, source_width, height, width):
    spot = place(source_height, source_width, FrameTransform(height=height, width=width))
    assert spot.source_box == (0, 0, source_width, source_height)
    assert 0 <= spot.top <= height - spot.height
    assert 0 <= spot.left <= width - spot.width
    assert height - spot.height == 0 or width - spot.width == 0
    scale = min(height / source_height, width / source_width)
    assert abs(spot.height - source_height * scale) <= 1
    assert abs(spot.width - source_width * scale) <= 1


def test_letterbox_centres_on_black():
    boxed = fit_frame(np.full((2, 4), 200, np.uint8), FrameTransform(height=4, width=4))
    assert boxed.tolist() == [[0] * 4, [200] * 4, [200] * 4, [0] * 4]


def test_crop_takes_the_centre():
    image = np.array([[10, 20, 30, 40]], np.uint8).repeat(2, axis=0)
    assert fit_frame(image, FrameTransform(height=2, width=2, fit="crop")).tolist() == [[20, 30], [20, 30]]


@given(*(st.integers(1, 200) for _ in range(4)))
def test_crop_fills_the_result_with_the_largest_box(source_height, source_width, height, width):
    spot = place(source_height, source_width, FrameTransform(height=height, width=width, fit="crop"))
    left, top, right, bottom = spot.source_box
    assert (spot.height, spot.width) == (height, width)
    assert (bottom - top) / (right - left) == pytest.approx(height / width)
    assert bottom - top == pytest.approx(source_height) or right - left == pytest.approx(source_width)


def test_crop_box_cuts_before_fitting(rng):
    image = rng.integers(0, 256, (6, 8), dtype=np.uint8)
    cut = fit_frame(image, FrameTransform(height=2, width=3, crop_box=(4, 1, 7, 3)))
    assert np.array_equal(cut, image[1:3, 4:7])


def test_crop_box_of_the_result_size_differs_from_the_whole(rng):
    image = rng.integers(0, 256, (4, 4), dtype=np.uint8)
    cut = fit_frame(image, FrameTransform(height=4, width=4, crop_box=(0, 0, 2, 2)))
    assert cut.max() <= image[:2, :2].max()


def test_colour_keeps_three_channels(rng):
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    fitted = fit_frame(image, FrameTransform(height=3, width=4, color="rgb"))
    each = [fit_frame(np.ascontiguousarray(image[..., c]), FrameTransform(height=3, width=4)) for c in range(3)]
    assert np.array_equal(fitted, np.stack(each, axis=-1))


def test_crop_box_outside_the_frame_is_refused():
    with pytest.raises(InputError, match=r"--set frames\.crop_box"):
        fit_frame(np.zeros((4, 4), np.uint8), FrameTransform(height=2, width=2, crop_box=(0, 0, 5, 4)))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("height", 0, "at least 1"),
        ("color", "blue", "--set frames.color"),
        ("fit", "pad", "--set frames.fit"),
        ("crop_box", (3, 0, 3, 2), "--set frames.crop_box"),
        ("crop_box", (-1, 0, 3, 2), "--set frames.crop_box"),
        ("target_fps", 0.0, "--set frames.target_fps"),
    ],
)
def test_bad_fields_are_refused(field, value, message):
    with pytest.raises(ConfigError, match=message):
        FrameTransform(**({"height": 4, "width": 4} | {field: value}))


def test_all_bad_fields_are_named_at_once():
    with pytest.raises(ConfigError, match=r"--set frames.color.*--set frames.fit.*--set frames.target_fps"):
        FrameTransform(height=4, width=4, color="blue", fit="pad", target_fps=-1.0)


def timed(times):
    return [TimedFrame(Fraction(t), lambda i=i: i) for i, t in enumerate(times)]


def nearest_by_brute_force(times, target_fps):
    """Every k whose nearest frame is asked for, the last frame reaching half an interval beyond itself."""
    end = times[-1] + ((times[-1] - times[-2]) / 2 if len(times) > 1 else 0)
    ks = range(int(end * target_fps) + 1)
    return [min(range(len(times)), key=lambda i: (abs(times[i] - Fraction(k) / target_fps), i)) for k in ks]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 40))
def test_resampling_takes_the_nearest_frame(gaps, target_fps):
    times = [Fraction(sum(gaps[:i]), 30) for i in range(len(gaps) + 1)]
    chosen = [frame.image() for frame in resample(timed(times), target_fps=target_fps)]
    assert chosen == nearest_by_brute_force(times, target_fps)


@given(st.integers(1, 30), st.sampled_from([24, 25, 30, 50]))
def test_own_rate_changes_nothing(n_frames, fps):
    times = [Fraction(i, fps) for i in range(n_frames)]
    assert [f.image() for f in resample(timed(times), target_fps=fps)] == list(range(n_frames))


def test_half_and_double_rate():
    times = [Fraction(i, 30) for i in range(10)]
    assert [f.image() for f in resample(timed(times), target_fps=15)] == [0, 2, 4, 6, 8]
    assert [f.image() for f in resample(timed(times[:3]), target_fps=60)] == [0, 0, 1, 1, 2, 2]


def test_nothing_gives_nothing():
    assert list(resample([], target_fps=10)) == []
