"""Render: a patient and a recording become frames; echoes are drawn along beams and then brought onto the image."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.core.errors import ConfigError
from mnemoscope.phantom import kernels
from mnemoscope.phantom.acquisition import (
    FACE_SHARE,
    N_BEAMS,
    N_DEPTHS,
    SIZE_PX,
    Acquisition,
    beam_field,
    noise_offsets,
)
from mnemoscope.phantom.anatomy import Patient, Traits
from mnemoscope.phantom.motion import (
    Beat,
    Heart,
    beat_at,
    breathing_mm,
    build_heart,
    deform,
    leaflets,
    stretch_knots,
    volume_at,
    volumes,
)
from mnemoscope.phantom.shape import row_at
from mnemoscope.phantom.tissue import paint

_GRAIN_PX = 0.5
_BEAM_BLUR = 1.35
_VALVE_MM = 0.9


@dataclass(frozen=True, eq=False)
class PhantomClip:
    """A rendered clip and its truth.

    Attributes:
        frames: grey frames, uint8, shape (T, 112, 112).
        fps: frames per second.
        ef: ejection fraction of the drawn volumes, in percent.
        esv: end-systolic volume, in mL.
        edv: end-diastolic volume, in mL.
    """

    frames: np.ndarray
    fps: float
    ef: float
    esv: float
    edv: float


def render_clip(patient: Patient, acquisition: Acquisition, *, n_frames: int, fps: float) -> PhantomClip:
    """A clip of a patient; frame t does not depend on how many frames are asked for.

    Args:
        patient: who.
        acquisition: which recording.
        n_frames: T, at least 1.
        fps: frames per second, above 0.

    Returns:
        the clip with the volumes of its contours.

    Raises:
        ConfigError: without a frame or with a rate that is not positive.
    """
    times_s = _times_s(acquisition, n_frames=n_frames, fps=fps)
    heart = build_heart(patient)
    truth = volumes(heart)
    frames = _frames(heart, acquisition, times_s)
    return PhantomClip(frames=frames, fps=float(fps), ef=truth.ef, esv=truth.esv, edv=truth.edv)


def volume_curve(patient: Patient, acquisition: Acquisition, *, n_frames: int, fps: float) -> np.ndarray:
    """Left ventricular volume in each frame of :func:`render_clip`, in mL, shape (T,).

    Args:
        patient: who.
        acquisition: which recording.
        n_frames: T, at least 1.
        fps: frames per second, above 0.

    Raises:
        ConfigError: without a frame or with a rate that is not positive.
    """
    times_s = _times_s(acquisition, n_frames=n_frames, fps=fps)
    heart = build_heart(patient)
    contraction = beat_at(heart.traits, times_s).contraction
    return np.array([volume_at(heart, float(moment)) for moment in contraction])


def material_places(patient: Patient, acquisition: Acquisition, time_s: np.ndarray, *, scale: int = 1) -> np.ndarray:
    """Which tissue each pixel shows: its resting place in the heart at end diastole.

    Args:
        patient: who.
        acquisition: which recording.
        time_s: moments on the patient's time line in seconds, shape (T,); 0 is an end diastole.
        scale: samples per image pixel along each axis.

    Returns:
        (down, across) in mm, float32, shape (T, 112 * scale, 112 * scale, 2).
    """
    heart = build_heart(patient)
    warp = _warp(heart, acquisition, beat_at(heart.traits, time_s), breathing_mm(heart.traits, time_s))
    return _places(heart, acquisition, warp, scale=scale)


def lv_mask(patient: Patient, acquisition: Acquisition, *, contraction: float, scale: int = 1) -> np.ndarray:
    """Which pixels lie in the left ventricle's cavity, without breathing.

    Args:
        patient: who.
        acquisition: which recording.
        contraction: 0 at end diastole to 1 at end systole.
        scale: samples per image pixel along each axis.

    Returns:
        a mask, bool, shape (112 * scale, 112 * scale).
    """
    heart = build_heart(patient)
    beat = Beat(np.array([contraction]), np.zeros(1), np.zeros(1))
    places = _places(heart, acquisition, _warp(heart, acquisition, beat, np.zeros((1, 2))), scale=scale)[0]
    down, across = places[..., 0], places[..., 1]
    if heart.rest.polar:
        border = row_at(heart.rest, np.arctan2(down, across), heart.rest.inner_right)
        return np.hypot(down, across) < border
    left = row_at(heart.rest, down, heart.rest.centre - heart.rest.inner_left)
    right = row_at(heart.rest, down, heart.rest.centre + heart.rest.inner_right)
    return (down > 0.0) & (down < heart.traits.lv_length_mm) & (across > left) & (across < right)


def mm_per_px(traits: Traits, acquisition: Acquisition) -> float:
    """Size of an image pixel in mm."""
    return traits.view_depth_mm * acquisition.depth_scale / (SIZE_PX - acquisition.top_px)


def _times_s(acquisition: Acquisition, *, n_frames: int, fps: float) -> np.ndarray:
    if n_frames < 1:
        raise ConfigError(
            f"a phantom clip needs at least 1 frame, got n_frames={n_frames}; raise it (n_frames=, --frames)"
        )
    if not fps > 0.0:
        raise ConfigError(f"a phantom clip needs a positive frame rate, got {fps:g} fps; set it (fps=, --fps)")
    return acquisition.start_s + np.arange(n_frames) / fps


def _frames(heart: Heart, acquisition: Acquisition, times_s: np.ndarray) -> np.ndarray:
    fields = beam_field(acquisition, wall_rings=9.0 + 8.0 * heart.traits.outside_level)
    display = kernels.Display(
        offset=fields.offset,
        haze=fields.haze,
        noise=fields.noise,
        noise_depth=fields.noise_depth,
        starts=noise_offsets(acquisition, len(times_s)),
        contrast=np.float32(acquisition.contrast),
    )
    warp = _warp(heart, acquisition, beat_at(heart.traits, times_s), breathing_mm(heart.traits, times_s))
    frames = np.empty((len(times_s), SIZE_PX, SIZE_PX), dtype=np.uint8)
    tissue = _tissue(heart, acquisition, fields.speckle)
    kernels.render_frames(frames, _fan(heart.traits, acquisition), warp, tissue, display)
    return frames


def _tissue(heart: Heart, acquisition: Acquisition, speckle: np.ndarray) -> kernels.Tissue:
    painted = paint(heart)
    return kernels.Tissue(
        level=painted.level,
        down_mm=np.float32(painted.origin_mm[0]),
        across_mm=np.float32(painted.origin_mm[1]),
        cells_per_mm=np.float32(1.0 / painted.pitch_mm),
        valve_level=np.float32(heart.traits.valve_level),
        valve_mm=np.float32(_VALVE_MM * heart.traits.body_scale),
        speckle=speckle,
        grains_per_mm=np.float32(1.0 / (_GRAIN_PX * mm_per_px(heart.traits, acquisition))),
        speckle_level=np.float32(acquisition.speckle_level),
    )


def _fan(traits: Traits, acquisition: Acquisition) -> kernels.Fan:
    """Beams, and for each pixel its fractional depth and beam index and its share inside the sector."""
    half, length = np.deg2rad(acquisition.half_angle_deg), SIZE_PX - acquisition.top_px
    angles = np.linspace(-half, half, N_BEAMS, dtype=np.float32)
    rows, columns = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    x, z = columns - 0.5 * (SIZE_PX - 1), rows - acquisition.top_px
    radius, angle = np.hypot(x, z), np.arctan2(x, np.maximum(z, 1e-6))
    from_borders_px = ((half - np.abs(angle)) * radius, length - radius, radius - FACE_SHARE * length)
    inside = np.prod([np.clip(away + 0.5, 0.0, 1.0) for away in from_borders_px], axis=0) * (z > 0.0)
    return kernels.Fan(
        sines=np.sin(angles),
        cosines=np.cos(angles),
        step_mm=traits.view_depth_mm * acquisition.depth_scale / N_DEPTHS,
        blur=_blur_weights(),
        depth=(radius / length * N_DEPTHS - 0.5).astype(np.float32),
        beam=((angle / half + 1.0) * 0.5 * (N_BEAMS - 1)).astype(np.float32),
        inside=inside.astype(np.float32),
    )


def _blur_weights() -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-2, 3) / _BEAM_BLUR) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _warp(heart: Heart, acquisition: Acquisition, beat: Beat, moved_mm: np.ndarray) -> kernels.Warp:
    stretch, stretch_rest = stretch_knots(heart, beat)
    rows = heart.rest.rows
    return kernels.Warp(
        polar=heart.rest.polar,
        poses=_poses(heart, acquisition, moved_mm),
        stretch=stretch.astype(np.float32),
        stretch_rest=stretch_rest.astype(np.float32),
        knots=deform(heart, beat).knots.astype(np.float32),
        knots_rest=heart.rest.knots.astype(np.float32),
        first_row=np.float32(rows[0]),
        row_step=np.float32(rows[1] - rows[0]),
        leaflets=leaflets(heart, beat).astype(np.float32),
    )


def _poses(heart: Heart, acquisition: Acquisition, moved_mm: np.ndarray) -> np.ndarray:
    """Place of the heart's origin (lateral, depth) and sine and cosine of its tilt, shape (T, 4)."""
    traits = heart.traits
    turn = np.deg2rad(acquisition.turn_deg)
    place = np.array([traits.lateral_mm, traits.depth_mm])
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ place
    shift = np.array(acquisition.shift_mm) * traits.body_scale
    origin = turned + shift + moved_mm * traits.body_scale
    tilt = turn + (0.0 if heart.rest.polar else np.deg2rad(traits.tilt_deg))
    angles = np.broadcast_to([np.sin(tilt), np.cos(tilt)], (len(moved_mm), 2))
    return np.concatenate([origin, angles], axis=1).astype(np.float32)


def _places(heart: Heart, acquisition: Acquisition, warp: kernels.Warp, *, scale: int) -> np.ndarray:
    # Samples stand at the centres of a pixel's scale x scale parts; their first one lies before the pixel's centre.
    places = np.empty((len(warp.poses), SIZE_PX * scale, SIZE_PX * scale, 2), dtype=np.float32)
    top = (acquisition.top_px + 0.5) * scale - 0.5
    kernels.resting_places(places, mm_per_px(heart.traits, acquisition) / scale, top, warp)
    return places
