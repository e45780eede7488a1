import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import DegenerateValues, Mismatch
from mnemoscope.latents.scaling import Scaling, ScalingSums, pixels_to_unit, unit_to_pixels

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 4), st.integers(1, 5))
TWO_CHANNELS = Scaling(low=(-2.0, 0.0), high=(4.0, 10.0), mean=(0.5, 3.0), std=(2.0, 0.25))


def latents(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Noise with another offset and spread in every channel."""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    offset, spread = rng.normal(size=(channels, 1, 1)), rng.uniform(0.5, 3, size=(channels, 1, 1))
    return (offset + spread * rng.normal(size=shape)).astype(np.float16)


def scaling_of(*blocks: np.ndarray) -> Scaling:
    sums = ScalingSums()
    for block in blocks:
        sums.add(block)
    return sums.scaling()


def test_every_pixel_value_survives_the_round_trip_and_the_ends_are_exact() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    unit = pixels_to_unit(pixels)
    assert unit.dtype == np.float32
    assert unit[[0, 255]].tolist() == [-1.0, 1.0]
    np.testing.assert_allclose(unit, 2 * pixels.astype(np.float64) / 255 - 1, atol=1e-7)
    np.testing.assert_array_equal(unit_to_pixels(unit), pixels)


def test_overshoot_becomes_black_or_white_and_halves_round_to_the_nearest_pixel() -> None:
    values = np.array([-1.3, 1.2, 0.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    assert unit_to_pixels(values).tolist() == [0, 255, 128, 100, 101]


@given(SHAPES.filter(lambda shape: shape[0] * shape[2] * shape[3] > 1), st.integers(0, 999))
def test_the_constants_are_those_of_numpy(shape: tuple[int, ...], seed: int) -> None:
    block = latents(shape, seed)
    wide = block.astype(np.float64)
    if np.any(np.ptp(wide, axis=(0, 2, 3)) == 0):
        return
    found = scaling_of(block)
    np.testing.assert_allclose(found.mean, wide.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(found.std, wide.std(axis=(0, 2, 3)), rtol=1e-6)
    assert found.low == tuple(wide.min(axis=(0, 2, 3)))
    assert found.high == tuple(wide.max(axis=(0, 2, 3)))
    assert found.channels == shape[1]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 999))
def test_how_the_frames_come_in_blocks_does_not_matter(counts: list[int], seed: int) -> None:
    frames = latents((sum(counts), 3, 2, 2), seed)
    parts = np.split(frames, np.cumsum(counts)[:-1])
    whole, in_parts = scaling_of(frames), scaling_of(*parts)
    assert (in_parts.low, in_parts.high) == (whole.low, whole.high)
    np.testing.assert_allclose([*in_parts.mean, *in_parts.std], [*whole.mean, *whole.std], rtol=1e-12, atol=1e-12)


def test_minmax_maps_the_extremes_of_the_train_set_to_minus_one_and_one() -> None:
    train = latents((20, 3, 4, 4))
    scaled = scaling_of(train).apply(train, "minmax")
    np.testing.assert_allclose(scaled.min(axis=(0, 2, 3)), -1, atol=1e-6)
    np.testing.assert_allclose(scaled.max(axis=(0, 2, 3)), 1, atol=1e-6)


def test_standard_gives_mean_zero_and_standard_deviation_one() -> None:
    train = latents((50, 3, 4, 4))
    scaled = scaling_of(train).apply(train, "standard").astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_apply_by_hand() -> None:
    x = np.array([[[1.0]], [[4.0]]], dtype=np.float16)
    assert TWO_CHANNELS.apply(x, "minmax").ravel() == pytest.approx([0.0, -0.2])
    assert TWO_CHANNELS.apply(x, "standard").ravel() == pytest.approx([0.25, 4.0])


def test_nothing_is_clipped_outside_the_train_extremes() -> None:
    x = np.array([[[10.0]], [[-20.0]]], dtype=np.float32)
    assert TWO_CHANNELS.apply(x, "minmax").ravel() == pytest.approx([3.0, -5.0])


@pytest.mark.parametrize("mode", ["minmax", "standard"])
@given(SHAPES, st.integers(0, 99))
def test_invert_undoes_apply_and_the_shape_is_kept(mode, shape: tuple[int, ...], seed: int) -> None:
    scaling = scaling_of(latents((9, shape[1], 3, 3), seed))
    x = latents(shape, seed + 1).astype(np.float32)
    scaled = scaling.apply(x, mode)
    assert (scaled.shape, scaled.dtype) == (x.shape, np.float32)
    np.testing.assert_allclose(scaling.invert(scaled, mode), x, atol=1e-4)


def test_leading_axes_are_free() -> None:
    x = latents((6, 2, 3, 3)).astype(np.float32)
    one_by_one = np.stack([TWO_CHANNELS.apply(frame, "minmax") for frame in x])
    np.testing.assert_array_equal(TWO_CHANNELS.apply(x.reshape(2, 3, 2, 3, 3), "minmax").reshape(x.shape), one_by_one)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("direction", ["apply", "invert"])
def test_other_channels_are_refused_rather_than_broadcast(channels: int, direction: str) -> None:
    with pytest.raises(Mismatch, match=rf"2 channels.*got {channels}.*--vae"):
        getattr(TWO_CHANNELS, direction)(np.zeros((5, channels, 2, 2), np.float32), "minmax")


def test_a_constant_channel_is_refused() -> None:
    frames = latents((5, 3, 2, 2))
    frames[:, 1] = 0.5
    with pytest.raises(DegenerateValues, match="spread in every channel"):
        scaling_of(frames)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_nan_and_infinity_are_refused(value: float) -> None:
    frames = latents((5, 3, 2, 2))
    frames[3, 2, 0, 0] = value
    with pytest.raises(DegenerateValues, match="check the VAE"):
        scaling_of(frames)


def test_no_train_frame_is_refused_with_the_remedy() -> None:
    with pytest.raises(DegenerateValues, match="--scaling-from"):
        ScalingSums().scaling()


def test_json_keeps_every_digit() -> None:
    scaling = scaling_of(latents((7, 3, 2, 2)))
    assert Scaling.from_json(scaling.to_json()) == scaling


def test_constants_agree_up_to_the_rounding_of_another_processor_and_not_with_those_of_other_clips() -> None:
    clips = latents((60, 4, 6, 6))
    own = scaling_of(clips)
    extreme = clips.astype(np.float32)
    extreme[np.unravel_index(extreme.argmax(), extreme.shape)] += np.spacing(np.float16(extreme.max()))
    rounded = scaling_of((extreme * (1 + 1e-5)).astype(np.float16))
    assert own != rounded
    assert own.agrees(rounded)
    assert rounded.agrees(own)
    assert not own.agrees(scaling_of(latents((60, 4, 6, 6), seed=1)))
    assert not own.agrees(scaling_of(clips[:30]))
    assert not own.agrees(scaling_of(clips[:, :3]))
