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
    volumes,
)
from mnemoscope.phantom.tissue import paint

_TEXTURE_PX = 0.5
_BEAM_BLUR = 1.35


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


@dataclass(frozen=True, eq=False)
class _Scene:
    """Everything about the moving heart that the kernels need, per frame."""

    poses: np.ndarray
    stretch_now: np.ndarray
    stretch_rest: np.ndarray
    knots_now: np.ndarray
    knots_rest: np.ndarray
    leaflets: np.ndarray
    polar: bool


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


def lv_mask(patient: Patient, acquisition: Acquisition, *, contraction: float, scale: int = 1) -> np.ndarray:
    """Which pixels lie in the left ventricle's cavity, without breathing.

    Args:
        patient: who.
        acquisition: which recording.
        contraction: 0 at end diastole to 1 at end systole.
        scale: pixels per image pixel along each axis.

    Returns:
        a mask, bool, shape (112 * scale, 112 * scale).
    """
    heart = build_heart(patient)
    beat = Beat(np.array([contraction]), np.zeros(1), np.zeros(1))
    scene = _scene(heart, acquisition, beat, np.zeros((1, 2)))
    mask = np.zeros((SIZE_PX * scale, SIZE_PX * scale), dtype=np.bool_)
    kernels.cavity_mask(
        mask,
        mm_per_px(heart.traits, acquisition) / scale,
        acquisition.top_px * scale,
        scene.poses[0],
        scene.stretch_now[0],
        scene.stretch_rest,
        scene.knots_now[0],
        scene.knots_rest,
        _row_map(heart),
        scene.polar,
        heart.traits.lv_length_mm,
    )
    return mask


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
    traits, tissue = heart.traits, paint(heart)
    scene = _scene(heart, acquisition, beat_at(traits, times_s), breathing_mm(traits, times_s))
    fields = beam_field(acquisition, wall_rings=9.0 + 8.0 * traits.outside_level)
    frames = np.empty((len(times_s), SIZE_PX, SIZE_PX), dtype=np.uint8)
    depth_mm = traits.view_depth_mm * acquisition.depth_scale
    grid = (*tissue.origin_mm, tissue.pitch_mm, 1.0 / (_TEXTURE_PX * mm_per_px(traits, acquisition)))
    scan = _scan_table(acquisition)
    kernels.render_frames(
        frames,
        np.sin(_beam_angles(acquisition)),
        np.cos(_beam_angles(acquisition)),
        depth_mm / N_DEPTHS,
        scene.poses,
        scene.stretch_now,
        scene.stretch_rest,
        scene.knots_now,
        scene.knots_rest,
        _row_map(heart),
        scene.polar,
        tissue.level,
        np.array(grid, dtype=np.float32),
        scene.leaflets,
        np.array([traits.valve_level, 0.9 * traits.body_scale], dtype=np.float32),
        fields.offset,
        fields.haze,
        fields.speckle,
        acquisition.speckle_level,
        fields.noise,
        fields.noise_depth,
        noise_offsets(acquisition, len(times_s)),
        _blur_weights(),
        scan[0],
        scan[1],
        scan[2],
        acquisition.contrast,
    )
    return frames


def _beam_angles(acquisition: Acquisition) -> np.ndarray:
    half = np.deg2rad(acquisition.half_angle_deg)
    return np.linspace(-half, half, N_BEAMS, dtype=np.float32)


def _blur_weights() -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-2, 3) / _BEAM_BLUR) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _scan_table(acquisition: Acquisition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel its fractional depth and beam index and its share inside the sector, each (112, 112)."""
    rows, columns = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    x, z = columns - 0.5 * (SIZE_PX - 1), rows - acquisition.top_px
    radius, angle = np.hypot(x, z), np.arctan2(x, np.maximum(z, 1e-6))
    length, half = SIZE_PX - acquisition.top_px, np.deg2rad(acquisition.half_angle_deg)
    depth = radius / length * N_DEPTHS - 0.5
    beam = (angle / half + 1.0) * 0.5 * (N_BEAMS - 1)
    inside = np.clip((half - np.abs(angle)) * radius + 0.5, 0.0, 1.0) * np.clip(length - radius + 0.5, 0.0, 1.0)
    inside = inside * np.clip(radius - FACE_SHARE * length + 0.5, 0.0, 1.0) * (z > 0.0)
    return depth.astype(np.float32), beam.astype(np.float32), inside.astype(np.float32)


def _row_map(heart: Heart) -> np.ndarray:
    """First row's address and the distance of two rows."""
    rows = heart.rest.rows
    return np.array([rows[0], rows[1] - rows[0]], dtype=np.float32)


def _scene(heart: Heart, acquisition: Acquisition, beat: Beat, moved_mm: np.ndarray) -> _Scene:
    now, rest = stretch_knots(heart, beat)
    return _Scene(
        poses=_poses(heart, acquisition, moved_mm),
        stretch_now=now.astype(np.float32),
        stretch_rest=rest.astype(np.float32),
        knots_now=deform(heart, beat).knots.astype(np.float32),
        knots_rest=heart.rest.knots.astype(np.float32),
        leaflets=leaflets(heart, beat).astype(np.float32),
        polar=heart.rest.polar,
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
