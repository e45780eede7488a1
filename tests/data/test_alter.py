import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mnemoscope.core.rng import generator
from mnemoscope.data import alter


@pytest.fixture
def frame() -> np.ndarray:
    """Smooth, so that interpolation and JPEG keep it, and brighter to the right."""
    y, x = np.mgrid[:48, :64]
    return (60 + x + 30 * np.sin(y / 7)).astype(np.uint8)


def test_gain_multiplies_and_saturates() -> None:
    assert alter.gain(np.array([[0, 100, 200]], np.uint8), 1.5).tolist() == [[0, 150, 255]]


def test_gamma_is_the_power_of_the_share_of_white() -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(alter.gamma(values, 2.0)[0], np.rint(np.arange(256) ** 2 / 255))


@given(right=st.integers(-9, 9), down=st.integers(-9, 9))
def test_whole_pixel_shifts_move_the_picture_and_leave_black(right: int, down: int) -> None:
    frame = np.random.default_rng(0).integers(1, 255, (20, 24), dtype=np.uint8)
    padded = np.pad(frame, 9)
    expected = padded[9 - down : 29 - down, 9 - right : 33 - right]
    np.testing.assert_array_equal(alter.move(frame, right_px=right, down_px=down), expected)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (21, 21), dtype=np.uint8)
    turned = alter.move(frame, rotation_deg=90).astype(int)
    assert np.abs(turned - np.rot90(frame)).max() <= 1


def test_zoom_agrees_with_scipy_about_the_same_centre(frame: np.ndarray) -> None:
    centre = (np.array(frame.shape) - 1) / 2
    expected = ndimage.affine_transform(frame.astype(float), np.eye(2) / 1.25, offset=centre - centre / 1.25, order=1)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(alter.move(frame, zoom=1.25)[inner] - expected[inner]).max() <= 1.5


def test_flipping_twice_gives_the_frame_back(frame: np.ndarray) -> None:
    assert not np.array_equal(alter.flip(frame), frame)
    np.testing.assert_array_equal(alter.flip(alter.flip(frame)), frame)


def test_noise_and_speckle_have_the_asked_for_strength() -> None:
    gray = np.full((200, 200), 100, np.uint8)
    assert alter.noise(gray, 8.0, generator(0, "n")).std() == pytest.approx(8.0, rel=0.03)
    assert alter.speckle(gray, 0.1, generator(0, "s")).std() == pytest.approx(10.0, rel=0.03)


def test_blur_and_jpeg_keep_a_smooth_frame_and_blur_smooths_a_rough_one(frame: np.ndarray) -> None:
    assert np.abs(alter.jpeg(frame, 90).astype(int) - frame).mean() < 2
    rough = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    assert alter.blur(rough, 1.5).std() < 0.4 * rough.std()


@pytest.mark.parametrize("colours", [(), (3,)])
def test_an_altered_clip_depends_on_its_names_alone_and_differs_frame_by_frame(colours: tuple[int, ...]) -> None:
    clip = np.random.default_rng(0).integers(0, 255, (9, 32, 32, *colours), dtype=np.uint8)
    first = alter.altered_clip(clip, count=4, seed=1, clip_id="a")
    assert first.shape == (4, 32, 32, *colours)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, alter.altered_clip(clip, count=4, seed=1, clip_id="a"))
    assert not np.array_equal(first, alter.altered_clip(clip, count=4, seed=1, clip_id="b"))
    assert not np.array_equal(first, alter.altered_clip(clip, count=4, seed=2, clip_id="a"))


def test_a_short_clip_gives_each_of_its_frames_once() -> None:
    clip = np.zeros((3, 16, 16), np.uint8)
    assert len(alter.altered_clip(clip, count=8, seed=0, clip_id="a")) == 3


def test_alterations_are_mild_enough_to_keep_the_picture() -> None:
    """The better correlation of the draw as it is and flipped back stays high for most draws."""
    y, x = np.mgrid[-1:1:112j, -1:1:112j]
    disc = (x**2 + y**2 < 0.81) & ((x + 0.35) ** 2 + (y - 0.1) ** 2 > 0.1)
    lopsided = (disc * (125 + 100 * x + 30 * np.sin(9 * y))).astype(np.uint8)

    def likeness(draw: np.ndarray) -> float:
        return float(np.corrcoef(draw.ravel(), lopsided.ravel())[0, 1])

    assert likeness(alter.flip(lopsided)) < 0.3
    draws = [alter.altered(lopsided, generator(i, "mild")) for i in range(120)]
    as_is, back = (np.array([likeness(change(draw)) for draw in draws]) for change in (np.asarray, alter.flip))
    best = np.maximum(as_is, back)
    assert np.median(best[as_is >= back]) > 0.6
    assert (best > 0.6).mean() > 0.75
    assert (as_is < back).mean() == pytest.approx(0.35, abs=0.13)
