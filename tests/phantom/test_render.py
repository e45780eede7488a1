import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from mnemoscope.core.errors import ConfigError
from mnemoscope.core.rng import generator
from mnemoscope.phantom.acquisition import draw_acquisition
from mnemoscope.phantom.anatomy import VIEWS, draw_patient
from mnemoscope.phantom.motion import build_heart, long_axis_mm
from mnemoscope.phantom.render import lv_mask, material_places, mm_per_px, render_clip, volume_curve

SCALE = 6


def disc_volume_ml(mask: np.ndarray, tilt_rad: float, pitch_mm: float, n_discs: int = 20) -> float:
    """Disc rule by counting: samples are binned along the axis, each bin's width is its area over its height."""
    rows, columns = np.nonzero(mask)
    along = (columns * np.sin(tilt_rad) + rows * np.cos(tilt_rad)) * pitch_mm
    first, last = along.min(), along.max() + pitch_mm
    counts, _ = np.histogram(along, bins=n_discs, range=(first, last))
    height = (last - first) / n_discs
    diameters = counts * pitch_mm**2 / height
    return float(np.sum(np.pi / 4.0 * diameters**2 * height) / 1000.0)


def counted_volume_ml(patient, acquisition, contraction: float) -> float:
    mask = lv_mask(patient, acquisition, contraction=contraction, scale=SCALE)
    pitch_mm = mm_per_px(patient.traits, acquisition) / SCALE
    if patient.view == "psax":
        length = long_axis_mm(build_heart(patient), np.array([contraction]))[0]
        return 5.0 / 6.0 * mask.sum() * pitch_mm**2 * length / 1000.0
    return disc_volume_ml(mask, np.deg2rad(patient.traits.tilt_deg + acquisition.turn_deg), pitch_mm)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("index", range(3))
def test_ef_is_that_of_the_pixels_drawn(view, index):
    patient = draw_patient(view, generator(21, "p", index))
    acquisition = draw_acquisition(generator(21, "a", index))
    clip = render_clip(patient, acquisition, n_frames=1, fps=32.0)
    edv, esv = (counted_volume_ml(patient, acquisition, c) for c in (0.0, 1.0))
    assert clip.edv == pytest.approx(edv, rel=0.03)
    assert clip.esv == pytest.approx(esv, rel=0.05)
    assert clip.ef == pytest.approx(100.0 * (1.0 - esv / edv), abs=1.5)


def test_the_volume_of_each_frame(patient, acquisition):
    clip = render_clip(patient, acquisition, n_frames=1, fps=32.0)
    curve = volume_curve(patient, acquisition, n_frames=400, fps=160.0)
    assert (curve.max(), curve.min()) == pytest.approx((clip.edv, clip.esv), rel=2e-3)
    assert np.array_equal(curve[:7], volume_curve(patient, acquisition, n_frames=7, fps=160.0))
    at_rest = dataclasses.replace(acquisition, start_s=0.0)
    assert volume_curve(patient, at_rest, n_frames=1, fps=32.0) == pytest.approx([clip.edv])


def test_the_mask_is_the_dark_cavity_of_the_frame(patient, acquisition):
    acquisition = dataclasses.replace(acquisition, start_s=0.0)
    frame = render_clip(patient, acquisition, n_frames=1, fps=32.0).frames[0].astype(float)
    mask = lv_mask(patient, acquisition, contraction=0.0)
    core, near = gaussian_filter(mask.astype(float), 2.0) > 0.95, gaussian_filter(mask.astype(float), 3.0) > 0.02
    shell = near & (gaussian_filter(mask.astype(float), 1.0) < 0.05) & (frame > 0)
    assert frame[core].mean() < 0.7 * frame[shell].mean()


def test_frames_are_bytes_with_a_black_surround(patient, acquisition):
    clip = render_clip(patient, acquisition, n_frames=2, fps=32.0)
    assert clip.frames.shape == (2, 112, 112)
    assert clip.frames.dtype == np.uint8
    assert clip.frames[:, -1, 0].max() == clip.frames[:, 40, 0].max() == 0
    assert 15.0 < clip.frames.mean() < 70.0


@settings(max_examples=8, deadline=None)
@given(view=st.sampled_from(VIEWS), n_frames=st.integers(1, 9))
def test_a_frame_does_not_depend_on_how_many_follow(view, n_frames):
    patient, acquisition = draw_patient(view, generator(4, "p")), draw_acquisition(generator(4, "a"))
    whole = render_clip(patient, acquisition, n_frames=9, fps=32.0)
    part = render_clip(patient, acquisition, n_frames=n_frames, fps=32.0)
    np.testing.assert_array_equal(part.frames, whole.frames[:n_frames])
    assert (part.ef, part.esv, part.edv) == (whole.ef, whole.esv, whole.edv)


def test_the_heart_moves_and_comes_back_after_a_beat(patient, acquisition):
    traits = patient.traits
    still = dataclasses.replace(acquisition, noise_level=0.0, start_s=0.0)
    half_beat_fps = traits.heart_rate_bpm / 60.0 / traits.systole_share
    systole = render_clip(patient, still, n_frames=2, fps=half_beat_fps).frames.astype(float)
    cycle = render_clip(patient, still, n_frames=2, fps=traits.heart_rate_bpm / 60.0).frames.astype(float)
    assert np.abs(cycle[1] - cycle[0]).mean() < 0.7 * np.abs(systole[1] - systole[0]).mean()


def speckle(patient, acquisition, times_s: tuple[float, float]) -> np.ndarray:
    """Speckle of two moments alone: frames with it minus the same frames without."""
    quiet = dataclasses.replace(acquisition, noise_level=0.0, start_s=times_s[0])
    fps = 1.0 / (times_s[1] - times_s[0])
    with_grain = render_clip(patient, quiet, n_frames=2, fps=fps).frames.astype(float)
    without = render_clip(patient, dataclasses.replace(quiet, speckle_level=0.0), n_frames=2, fps=fps).frames
    return with_grain - without


def test_speckle_is_carried_by_the_tissue(view, acquisition):
    """The grain of a piece of wall at end systole is found where that piece was at end diastole, not where it is."""
    index = next(i for i in range(99) if draw_patient(view, generator(6, "p", i)).traits.ef_target_pct > 60.0)
    patient = draw_patient(view, generator(6, "p", index))
    end_systole_s = patient.traits.systole_share * 60.0 / patient.traits.heart_rate_bpm
    times_s = (0.0, end_systole_s)
    grain = speckle(patient, acquisition, times_s)
    then, now = material_places(patient, acquisition, np.array(times_s))
    away_mm, source = cKDTree(then.reshape(-1, 2)).query(now.reshape(-1, 2))
    moved = np.hypot(*np.moveaxis(then - now, -1, 0)).ravel() > 3.0 * mm_per_px(patient.traits, acquisition)
    seen = (np.abs(grain[0]).ravel()[source] > 0) & (np.abs(grain[1]).ravel() > 0)
    chosen = moved & seen & (away_mm < mm_per_px(patient.traits, acquisition))
    assert chosen.sum() > 100
    carried = np.corrcoef(grain[0].ravel()[source][chosen], grain[1].ravel()[chosen])[0, 1]
    in_place = np.corrcoef(grain[0].ravel()[chosen], grain[1].ravel()[chosen])[0, 1]
    assert carried > 0.6
    assert in_place < 0.3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", 1),
        ("start_s", 0.4),
        ("depth_scale", 1.2),
        ("half_angle_deg", 30.0),
        ("top_px", 4.0),
        ("shift_mm", (6.0, 6.0)),
        ("turn_deg", 8.0),
        ("gain_level", 0.2),
        ("attenuation_level", 0.4),
        ("edge_level", 0.5),
        ("haze_level", 0.0),
        ("reverberation_level", 0.6),
        ("speckle_level", 0.4),
        ("noise_level", 0.2),
        ("contrast", 1.6),
    ],
)
def test_every_setting_of_the_recording_reaches_the_frame(acquisition, setting, value):
    patient = draw_patient("a4c", generator(0, "p"))
    plain = render_clip(patient, acquisition, n_frames=1, fps=32.0).frames.astype(float)
    other = dataclasses.replace(acquisition, **{setting: value})
    changed = render_clip(patient, other, n_frames=1, fps=32.0).frames.astype(float)
    assert np.abs(changed - plain).mean() > 0.2


@pytest.mark.parametrize(
    ("n_frames", "fps", "message"),
    [(0, 32.0, r"got n_frames=0.*--frames"), (4, 0.0, r"got 0 fps.*--fps"), (4, float("nan"), r"got nan fps.*--fps")],
)
def test_clips_without_frames_or_rate_are_refused(acquisition, n_frames, fps, message):
    patient = draw_patient("a4c", generator(0, "p"))
    with pytest.raises(ConfigError, match=message):
        render_clip(patient, acquisition, n_frames=n_frames, fps=fps)
