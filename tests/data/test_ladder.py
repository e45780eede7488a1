import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from mnemoscope.core.rng import generator
from mnemoscope.data.ladder import LADDER, RUNGS, Beside

SIZE = 64
ROUND_TRIP = replace(Beside(), round_trip=lambda frames: 255 - frames)


@pytest.fixture
def clip() -> np.ndarray:
    """Smooth textures inside a disc, each frame its own."""
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 3) for _ in range(3)]
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    return np.stack([np.clip(110 + 250 * field, 1, 200) * (x**2 + y**2 < 0.5) for field in fields]).astype(np.uint8)


def changed(name: str, clip: np.ndarray, seed: int = 0, beside: Beside = ROUND_TRIP) -> np.ndarray:
    return RUNGS[name].changed(clip, generator(seed, "ladder", name, "clip"), beside)


def centroid(frame: np.ndarray) -> np.ndarray:
    return np.array(ndimage.center_of_mass(frame))


def test_the_rungs_stand_in_order_and_have_one_name_each() -> None:
    assert [rung.name for rung in LADDER] == [
        *("exact", "neighbouring_frame", "other_frame", "vae_round_trip", "time_shift"),
        *("gain", "gamma", "speckle", "noise", "blur", "jpeg", "rescale"),
        *("zoom", "shift", "rotation", "flip", "blend", "sector_mask", "border"),
    ]
    assert len(RUNGS) == len(LADDER)


def test_only_two_rungs_need_anything_beside_the_clip() -> None:
    assert {rung.name: rung.needs for rung in LADDER if rung.needs != "nothing"} == {
        "vae_round_trip": "encoder",
        "blend": "other",
    }


def test_a_rung_moves_frames_or_changes_pixels_and_exact_does_neither() -> None:
    assert (RUNGS["exact"].move, RUNGS["exact"].change) == (None, None)
    assert all((rung.move is None) != (rung.change is None) for rung in LADDER[1:])


@pytest.mark.parametrize("colours", [(), (3,)])
@pytest.mark.parametrize("name", [rung.name for rung in LADDER if rung.change])
def test_a_change_keeps_size_and_type_and_follows_from_its_seed(name: str, colours: tuple[int, ...]) -> None:
    clip = np.random.default_rng(1).integers(1, 255, (3, 32, 40, *colours), dtype=np.uint8)
    beside = Beside(round_trip=lambda frames: 255 - frames, other=clip[::-1])
    first = changed(name, clip, 4, beside)
    assert (first.shape, first.dtype) == (clip.shape, np.uint8)
    assert not np.array_equal(first, clip)
    np.testing.assert_array_equal(first, changed(name, clip, 4, beside))


@pytest.mark.parametrize("name", ["speckle", "noise"])
def test_noise_is_new_in_each_frame(name: str) -> None:
    still = np.full((2, SIZE, SIZE), 120, np.uint8)
    first, second = changed(name, still).astype(int)
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert first.std() == pytest.approx({"speckle": 0.2 * 120, "noise": 6.0}[name], rel=0.05)


@pytest.mark.parametrize(
    "name", [rung.name for rung in LADDER if rung.change and rung.name not in ("speckle", "noise", "blend")]
)
def test_one_draw_holds_for_the_whole_clip(name: str, clip: np.ndarray) -> None:
    still = np.repeat(clip[:1], 3, axis=0)
    for seed in range(4):
        frames = changed(name, still, seed)
        np.testing.assert_array_equal(frames[0], frames[1])
        np.testing.assert_array_equal(frames[0], frames[2])


def drawn(name: str, clip: np.ndarray) -> list[np.ndarray]:
    return [changed(name, clip, seed) for seed in range(24)]


def test_gain_and_gamma_take_one_of_two_strengths() -> None:
    gray = np.full((1, 2, 2), 100, np.uint8)
    assert {int(frames.max()) for frames in drawn("gain", gray)} == {80, 120}
    assert {int(frames.max()) for frames in drawn("gamma", gray)} == {
        round(255 * (100 / 255) ** exponent) for exponent in (0.8, 1.25)
    }


def test_a_shift_is_four_pixels_in_any_direction(clip: np.ndarray) -> None:
    moves = np.array([centroid(frames[0]) - centroid(clip[0]) for frames in drawn("shift", clip)])
    np.testing.assert_allclose(np.hypot(*moves.T), 4, atol=0.15)
    assert (moves.min(axis=0) < -2).all()
    assert (moves.max(axis=0) > 2).all()


def test_a_rotation_is_ten_degrees_either_way(clip: np.ndarray) -> None:
    turned = [ndimage.rotate(clip[0].astype(float), angle, reshape=False, order=1) for angle in (-10, 10)]
    nearest = [[np.abs(frames[0] - turn).mean() for turn in turned] for frames in drawn("rotation", clip)]
    assert np.min(nearest, axis=1).max() < 1
    assert set(np.argmin(nearest, axis=1)) == {0, 1}


def test_zoom_shrinks_the_picture_to_95_percent_of_its_sides() -> None:
    disc = np.zeros((1, 101, 101), np.uint8)
    y, x = np.mgrid[-50:51, -50:51]
    disc[0, np.hypot(x, y) < 40] = 200
    assert changed("zoom", disc).sum() / disc.sum() == pytest.approx(0.95**2, rel=0.01)


def test_flip_blur_jpeg_and_rescale_against_other_libraries(clip: np.ndarray) -> None:
    np.testing.assert_array_equal(changed("flip", clip), clip[:, :, ::-1])
    blurred = ndimage.gaussian_filter(clip[0].astype(float), 1.0)
    assert np.abs(changed("blur", clip)[0] - blurred).mean() < 1
    file = io.BytesIO()
    Image.fromarray(clip[0]).save(file, "JPEG", quality=30)
    np.testing.assert_array_equal(changed("jpeg", clip)[0], np.asarray(Image.open(file)))
    rough = np.random.default_rng(0).integers(0, 255, (1, SIZE, SIZE), dtype=np.uint8)
    spectrum = np.abs(np.fft.fft2(changed("rescale", rough)[0].astype(float))) ** 2
    assert spectrum[SIZE // 4 : 3 * SIZE // 4].sum() < 0.15 * (np.abs(np.fft.fft2(rough[0])) ** 2).sum()


def test_a_blend_lays_three_tenths_of_the_other_over_and_goes_round_a_shorter_one() -> None:
    clip, other = np.full((3, 4, 4), 100, np.uint8), np.stack([np.full((4, 4), v, np.uint8) for v in (0, 200)])
    blended = changed("blend", clip, beside=Beside(other=other))
    assert blended[:, 0, 0].tolist() == [70, 130, 70]


def test_the_masks_are_black_where_they_hide_and_leave_the_rest(clip: np.ndarray) -> None:
    full = np.full((1, 100, 100), 9, np.uint8)
    shapes = {tuple(np.packbits(frames[0] > 0)) for frames in drawn("sector_mask", full)}
    assert len(shapes) == 24
    assert all(0.3 < (frames > 0).mean() < 0.7 for frames in drawn("sector_mask", full))
    border = changed("border", full)[0]
    assert border[10:90, 10:90].min() == 9
    assert border.astype(int).sum() == 80 * 80 * 9


def test_the_round_trip_is_the_encoders(clip: np.ndarray) -> None:
    np.testing.assert_array_equal(changed("vae_round_trip", clip), 255 - clip)


@given(st.integers(1, 12), st.integers(1, 300), st.integers(0, 5))
def test_moved_frames_lie_inside_the_clip(count: int, n_frames: int, seed: int) -> None:
    asked = np.arange(count) * n_frames // count
    for rung in LADDER:
        shown = rung.numbers(
            asked, n_frames=n_frames, stride_frames=n_frames / count, rng=generator(seed, "ladder", rung.name)
        )
        assert shown.shape == asked.shape
        assert shown.min() >= 0
        assert shown.max() < n_frames


def test_frames_move_by_one_by_half_and_by_a_quarter_of_the_stride() -> None:
    asked = np.array([0, 16, 32, 48])

    def numbers(name: str, seed: int = 0) -> list[int]:
        rng = generator(seed, "ladder", name)
        return RUNGS[name].numbers(asked, n_frames=64, stride_frames=16.0, rng=rng).tolist()

    assert numbers("exact") == asked.tolist()
    assert numbers("neighbouring_frame") == [1, 17, 33, 49]
    assert numbers("other_frame") == [8, 24, 40, 56]
    assert {tuple(numbers("time_shift", seed)) for seed in range(12)} == {(4, 20, 36, 52), (60, 12, 28, 44)}
