"""Tissue: how bright each point of a patient's heart echoes, painted once at end diastole and then carried along.

The map lives in the coordinates of ``shape``: rows are heights below the apex and columns lateral places (apical), or
both are millimetres from the centre (short axis). Levels are shares of the display's range after log compression.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from mnemoscope.phantom.anatomy import TEXTURE_MODES, Patient, Traits
from mnemoscope.phantom.motion import Heart
from mnemoscope.phantom.shape import GRID, grid_pitch_mm, row_at

_BLOOD_LEVEL = 0.085
_HINGE_LEVEL = 0.22
_FLOOR_LEVEL = 0.05
_LINE_CELLS = 1.3


@dataclass(frozen=True, eq=False)
class TissueMap:
    """Echo levels on a square grid.

    Attributes:
        level: shape (GRID, GRID), in [0, 1]; first index down the image.
        origin_mm: place of cell (0, 0), (down, across).
        pitch_mm: distance of two cells.
    """

    level: np.ndarray
    origin_mm: tuple[float, float]
    pitch_mm: float


@dataclass(frozen=True, eq=False)
class _Canvas:
    """The grid with everything that painting needs to know about each cell."""

    down_mm: np.ndarray
    across_mm: np.ndarray
    blood: np.ndarray
    muscle: np.ndarray
    heart: np.ndarray
    towards_probe: tuple[np.ndarray, np.ndarray]


def paint(heart: Heart) -> TissueMap:
    """Echo levels of the patient's heart and its surroundings at end diastole.

    Args:
        heart: whose.

    Returns:
        the map; the same for every clip of the patient.
    """
    canvas = _canvas(heart)
    level = _base_levels(canvas, heart.traits) + _texture(heart.patient, canvas, heart.traits)
    level = level + _borders(canvas, heart.traits) + _landmarks(canvas, heart)
    origin = (float(canvas.down_mm[0, 0]), float(canvas.across_mm[0, 0]))
    return TissueMap(
        level=np.clip(level, _FLOOR_LEVEL, 1.0).astype(np.float32),
        origin_mm=origin,
        pitch_mm=grid_pitch_mm(heart.traits),
    )


def _probe_place_mm(heart: Heart) -> tuple[float, float]:
    """Where the probe is in the heart's coordinates (down, across), in mm."""
    traits = heart.traits
    tilt = 0.0 if heart.rest.polar else np.deg2rad(traits.tilt_deg)
    down = -traits.depth_mm * np.cos(tilt) - traits.lateral_mm * np.sin(tilt)
    across = traits.depth_mm * np.sin(tilt) - traits.lateral_mm * np.cos(tilt)
    return float(down), float(across)


def _canvas(heart: Heart) -> _Canvas:
    pitch = grid_pitch_mm(heart.traits)
    first = -0.5 * GRID * pitch if heart.rest.polar else heart.rest.rows[0]
    down, across = np.meshgrid(first + pitch * np.arange(GRID), pitch * (np.arange(GRID) - 0.5 * GRID), indexing="ij")
    region = _regions(heart, down, across)
    blood = np.isin(region, (1, 3) if heart.rest.polar else (3, 5)).astype(float)
    muscle = np.isin(region, (2, 4) if heart.rest.polar else (2, 4, 6)).astype(float)
    probe = _probe_place_mm(heart)
    away_down, away_across = down - probe[0], across - probe[1]
    far = np.hypot(away_down, away_across) + 1e-6
    return _Canvas(
        down_mm=down,
        across_mm=across,
        blood=gaussian_filter(blood, 0.8),
        muscle=gaussian_filter(muscle, 0.8),
        heart=np.maximum(blood, muscle),
        towards_probe=(away_down / far, away_across / far),
    )


def _regions(heart: Heart, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Number of boundaries inside or left of each cell."""
    knots = heart.rest.knots
    if not heart.rest.polar:
        return np.sum(across[..., None] >= knots[:, None, :], axis=-1)
    row = np.mod(np.arctan2(down, across), 2.0 * np.pi) / (2.0 * np.pi) * GRID
    nearest = np.mod(np.rint(row).astype(int), GRID)
    return np.sum(np.hypot(down, across)[..., None] >= knots[nearest], axis=-1)


def _base_levels(canvas: _Canvas, traits: Traits) -> np.ndarray:
    other = 1.0 - canvas.blood - canvas.muscle
    return canvas.blood * _BLOOD_LEVEL + canvas.muscle * traits.wall_level + other * traits.outside_level


def _texture(patient: Patient, canvas: _Canvas, traits: Traits) -> np.ndarray:
    """The patient's own pattern: muscle and surroundings, and trabeculae that reach from the wall into the blood."""
    fine = zoom(patient.texture, GRID / TEXTURE_MODES, order=3, mode="nearest")
    coarse = gaussian_filter(fine, 9.0) * 5.0
    rim = gaussian_filter(canvas.muscle, 4.0) * canvas.blood
    layers = gaussian_filter(fine, (1.5, 7.0)) * 2.4
    around = 1.0 - canvas.blood - canvas.muscle
    trabeculae = 3.0 * rim * np.maximum(fine + 0.5 * coarse, -0.2)
    return traits.texture_level * (
        canvas.muscle * (fine + 0.8 * coarse) + around * (0.75 * layers + 0.3 * coarse) + trabeculae
    )


def _borders(canvas: _Canvas, traits: Traits) -> np.ndarray:
    """Bright lines where the beam meets a border: endocardium, and the pericardium around the heart."""
    endocardium = traits.endocardium_level * _reflection(canvas.blood, canvas.towards_probe)
    pericardium = traits.pericardium_level * _reflection(canvas.heart, canvas.towards_probe)
    return endocardium + pericardium


def _reflection(mask: np.ndarray, beam: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Border of a mask, 1 where it is met squarely, weaker where the beam runs along it."""
    smooth = gaussian_filter(mask, _LINE_CELLS)
    slope = np.gradient(smooth)
    squarely = (slope[0] * beam[0] + slope[1] * beam[1]) ** 2
    steepness = 1.0 / (np.sqrt(2.0 * np.pi) * _LINE_CELLS)
    strength = np.sqrt(0.16 * (slope[0] ** 2 + slope[1] ** 2) + 0.84 * squarely) / steepness
    return gaussian_filter(strength, 0.8) * 1.2


def _landmarks(canvas: _Canvas, heart: Heart) -> np.ndarray:
    return _short_axis_landmarks(canvas, heart) if heart.rest.polar else _apical_landmarks(canvas, heart)


def _apical_landmarks(canvas: _Canvas, heart: Heart) -> np.ndarray:
    """A papillary muscle at the lateral wall, a moderator band across the right ventricle, bright valve hinges."""
    traits, base = heart.traits, heart.traits.lv_length_mm
    size = traits.papillary_size_mm
    row = traits.papillary_place_share * base
    papillary = _blob(canvas, (row, _knot_mm(heart, row, 5) - 0.6 * size), (2.0 * size, size))
    row = traits.moderator_place_share * base
    band_end = row + 0.15 * base
    band = _bar(canvas, (row, _knot_mm(heart, row, 2)), (band_end, _knot_mm(heart, row, 3)))
    hinge_mm = (2.4 * traits.body_scale, 2.4 * traits.body_scale)
    hinges = sum(_blob(canvas, (base, _knot_mm(heart, base, knot)), hinge_mm) for knot in (2, 3, 4, 5))
    return traits.papillary_level * papillary + traits.moderator_level * band + _HINGE_LEVEL * hinges


def _knot_mm(heart: Heart, row_mm: float, knot: int) -> float:
    return float(row_at(heart.rest, np.array(row_mm), heart.rest.knots[:, knot]))


def _short_axis_landmarks(canvas: _Canvas, heart: Heart) -> np.ndarray:
    """Both papillary muscles; the second is a little smaller."""
    traits, rest = heart.traits, heart.rest
    level = np.zeros_like(canvas.blood)
    for side, share in ((0.5, 1.0), (-0.5, 0.85)):
        phi = np.pi / 2.0 + np.deg2rad(traits.tilt_deg + side * traits.papillary_angle_deg)
        radius = float(row_at(rest, np.array(phi), rest.inner_right)) - 0.75 * traits.papillary_size_mm
        size = share * traits.papillary_size_mm
        level += traits.papillary_level * _blob(canvas, (radius * np.sin(phi), radius * np.cos(phi)), (size, size))
    return level


def _blob(canvas: _Canvas, spot: tuple[float, float], radii_mm: tuple[float, float]) -> np.ndarray:
    away = ((canvas.down_mm - spot[0]) / radii_mm[0]) ** 2 + ((canvas.across_mm - spot[1]) / radii_mm[1]) ** 2
    return np.exp(-(away**2))


def _bar(canvas: _Canvas, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    along = np.array(end) - np.array(start)
    share = ((canvas.down_mm - start[0]) * along[0] + (canvas.across_mm - start[1]) * along[1]) / (along @ along + 1e-6)
    share = np.clip(share, 0.0, 1.0)
    away2 = (canvas.down_mm - start[0] - share * along[0]) ** 2 + (canvas.across_mm - start[1] - share * along[1]) ** 2
    return np.exp(-away2 / 6.0)
