from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mnemoscope.audit.evidence import align, aligned_ssim, judge, structural_similarity
from mnemoscope.audit.verification import auc
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.data import alter
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from tests.reference.structural_similarity import ssim


def texture(seed: int, *, size_px: int = 112, sigma_px: float = 4.0) -> np.ndarray:
    """A smooth random picture in a round field on black; its structure is as coarse as ``sigma_px``."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size_px, size_px)), sigma_px)
    rows, columns = np.indices(smooth.shape) - (size_px - 1) / 2
    field = np.hypot(rows, columns) < 0.42 * size_px
    return (field * np.clip(128 + 45 * smooth / smooth.std(), 20, 255)).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 23), st.integers(11, 23), st.integers(0, 99))
def test_ssim_agrees_with_counting_window_by_window(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, height, width))
    inside = np.ones((height, width), dtype=bool)
    assert structural_similarity(a, b, inside) == pytest.approx(ssim(a, b, inside), abs=1e-9)
    inside[:, -2:] = width < 13
    blended = (a + b) // 2
    assert structural_similarity(a, blended, inside) == pytest.approx(ssim(a, blended, inside), abs=1e-9)


def test_ssim_of_known_pairs() -> None:
    everywhere = np.ones((16, 16), dtype=bool)
    a = np.random.default_rng(0).integers(0, 256, (16, 16))
    assert structural_similarity(a, a, everywhere) == pytest.approx(1.0)
    gray = np.full((16, 16), 100.0)
    expected = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    assert structural_similarity(gray, 1.5 * gray, everywhere) == pytest.approx(expected)


def test_pixels_outside_change_nothing() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 30, 40))
    inside = np.zeros((30, 40), dtype=bool)
    inside[3:25, 10:38] = True
    other = np.where(inside, b, 255 - b)
    assert structural_similarity(a, other, inside) == structural_similarity(a, b, inside)


@pytest.mark.parametrize(
    ("right_px", "down_px", "rotation_deg", "zoom", "mirrored"),
    [
        (0, 0, 0, 1, False),
        (4, -3, 0, 1, False),
        (0, 0, 10, 1, True),
        (-9, 6, -14, 1.15, False),
        (2.5, 1.5, 5, 0.9, True),
    ],
)
def test_a_planted_pose_is_found(
    right_px: float, down_px: float, rotation_deg: float, zoom: float, mirrored: bool
) -> None:
    frame = texture(2)
    start = alter.flip(frame) if mirrored else frame
    copy = alter.move(start, right_px=right_px, down_px=down_px, rotation_deg=rotation_deg, zoom=zoom)
    found = align(frame, copy)
    assert found.mirrored == mirrored
    assert (found.right_px, found.down_px) == pytest.approx((right_px, down_px), abs=0.3)
    assert found.rotation_deg == pytest.approx(rotation_deg, abs=0.5)
    assert found.zoom == pytest.approx(zoom, abs=0.01)
    assert aligned_ssim(frame, copy) > 0.98


Change = Callable[[np.ndarray], np.ndarray]
CHANGES: dict[str, tuple[Change, float]] = {
    "nothing": (lambda frame: frame, 0.999),
    "shift": (lambda frame: alter.move(frame, right_px=4, down_px=-4), 0.99),
    "rotation": (lambda frame: alter.move(frame, rotation_deg=10), 0.99),
    "flip": (alter.flip, 0.99),
    "gain": (lambda frame: alter.gain(frame, 0.7), 0.99),
    "offset": (lambda frame: (frame * 0.5 + 40).astype(np.uint8), 0.95),
    "jpeg": (lambda frame: alter.jpeg(frame, 30), 0.9),
    "zoom": (lambda frame: alter.move(frame, zoom=0.95), 0.99),
    "fan": (lambda frame: alter.fan(frame, top_share=-0.05, half_angle_deg=36, depth_share=0.9), 0.7),
    "border": (lambda frame: alter.border(frame, 0.1), 0.8),
    "all": (
        lambda frame: alter.jpeg(
            alter.gain(alter.flip(alter.move(frame, rotation_deg=-7, zoom=1.07, right_px=3, down_px=2)), 1.2), 30
        ),
        0.85,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_stays_alike(name: str) -> None:
    change, least = CHANGES[name]
    frame = texture(3)
    assert aligned_ssim(frame, change(frame)) > least
    assert aligned_ssim(change(frame), frame) > least


def test_frames_of_two_scenes_are_not_alike() -> None:
    assert max(aligned_ssim(texture(seed), texture(seed + 50)) for seed in range(6)) < 0.6


def test_a_negative_is_another_scene() -> None:
    frame = texture(4)
    assert aligned_ssim(frame, np.where(frame > 0, 255 - frame, 0).astype(np.uint8)) < 0.6


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 200)])
def test_any_size_from_32_on(shape: tuple[int, int]) -> None:
    frame = texture(5, size_px=200, sigma_px=3.0)[60 : 60 + shape[0], : shape[1]]
    assert aligned_ssim(frame, alter.gain(frame, 0.8)) > 0.97


def test_frames_that_cannot_be_compared_are_refused() -> None:
    frame = texture(6)
    with pytest.raises(Mismatch, match=r"\(112, 112\) and \(112, 100\)"):
        aligned_ssim(frame, frame[:, :100])
    with pytest.raises(DegenerateValues, match="at least 32 pixels"):
        aligned_ssim(frame[:31], frame[:31])
    with pytest.raises(DegenerateValues, match="from 7 to 7"):
        aligned_ssim(frame, np.full_like(frame, 7))


def test_a_speck_is_no_evidence() -> None:
    speck = np.zeros((112, 112), np.uint8)
    speck[50:53, 50:53] = 200
    assert aligned_ssim(speck, speck) == 0.0


@pytest.mark.slow
def test_copies_of_phantom_frames_stand_apart_from_other_patients() -> None:
    """Each innocent beside the most similar of the others, as they lie."""
    spec = CohortSpec(n_patients=16, n_frames=1, seed=3)
    frames = [render(spec, clip).frames[0] for clip in clips(spec)]
    between = np.corrcoef([frame.ravel() for frame in frames]) - 2 * np.eye(len(frames))
    nearest = between.argmax(axis=1)
    innocents = np.array([aligned_ssim(frames[j], frames[i]) for i, j in enumerate(nearest)])
    for name, (change, _) in CHANGES.items():
        copies = np.array([aligned_ssim(frame, change(frame)) for frame in frames[:4]])
        assert auc(copies, innocents) == 1.0, name


def test_a_judgement_by_hand() -> None:
    """Of 40 innocents two exceed 37; what equals it is doubted."""
    found = judge(
        np.array([50.0, 38.0, 37.0, 60.0, 1.0]),
        np.random.default_rng(0).permutation(40).astype(float),
        flagged=np.array([True, True, True, False, True]),
    )
    assert (found.candidates, found.threshold, found.confirmed, found.doubted) == (5, 37.0, 2, 2)


@given(st.lists(st.integers(0, 9), min_size=20, max_size=50))
def test_at_most_one_innocent_in_twenty_would_be_confirmed(innocents: list[int]) -> None:
    values = np.array(innocents, float)
    found = judge(values, values, flagged=np.ones(len(values), bool))
    assert found.confirmed <= 0.05 * len(values)
    assert found.confirmed + found.doubted == found.candidates
    lower = values[values < found.threshold]
    assert not len(lower) or (values > lower.max()).sum() > 0.05 * len(values)


def test_a_judgement_needs_innocents_and_flags() -> None:
    with pytest.raises(TooFewSamples, match="at least 20 holdout clips, got 19"):
        judge(np.ones(3), np.zeros(19), flagged=np.ones(3, bool))
    with pytest.raises(Mismatch, match="each of 3 candidates, got 2"):
        judge(np.ones(3), np.zeros(20), flagged=np.ones(2, bool))
