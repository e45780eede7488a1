"""Motion: how a patient's heart beats, and the volumes of the contours that are drawn.

The left cavity narrows by rows and shortens along its axis until the ejection fraction asked for is reached; walls keep
their volume, so they thicken; the valve plane moves towards the apex and stretches the atria.
"""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from mnemoscope.phantom.anatomy import Patient, Traits
from mnemoscope.phantom.shape import Shape, build_shape

N_DISCS = 20
_BULLET_SHARE = 5.0 / 6.0
_BREATHING_SWAY = 0.35


@dataclass(frozen=True, eq=False)
class Beat:
    """State of the heart at T moments.

    Attributes:
        contraction: 0 at end diastole, 1 at end systole, shape (T,).
        opening: how far the inflow valves are open, in [0, 1], shape (T,).
        atrial_kick: how far the atria are contracted, in [0, 1], shape (T,).
    """

    contraction: np.ndarray
    opening: np.ndarray
    atrial_kick: np.ndarray


@dataclass(frozen=True, eq=False)
class Heart:
    """One patient's geometry with the narrowing that reaches the ejection fraction asked for."""

    patient: Patient
    traits: Traits
    rest: Shape
    narrowing: float


@dataclass(frozen=True)
class Volumes:
    """Left ventricular volumes by the disc rule in mL and the ejection fraction in percent."""

    edv: float
    esv: float
    ef: float


def build_heart(patient: Patient) -> Heart:
    """The patient's geometry, with the narrowing solved for the target ejection fraction.

    Args:
        patient: who.

    Returns:
        the heart, ready to be deformed.
    """
    traits = patient.traits
    rest = build_shape(patient.view, traits)
    edv = _volume_ml(rest, length_mm=traits.lv_length_mm)

    def excess_pct(narrowing: float) -> float:
        heart = Heart(patient=patient, traits=traits, rest=rest, narrowing=narrowing)
        return 100.0 * (1.0 - volume_at(heart, 1.0) / edv) - traits.ef_target_pct

    narrowing = float(brentq(excess_pct, -0.2, 0.8, xtol=1e-6))
    return Heart(patient=patient, traits=traits, rest=rest, narrowing=narrowing)


def volumes(heart: Heart) -> Volumes:
    """Volumes of the contours drawn at end diastole and end systole.

    Apical views: 20 discs across the long axis. Short axis: the drawn area along the patient's length, tapering as a
    bullet (5/6 area times length), as in EchoNet-Pediatric.

    Args:
        heart: whose.

    Returns:
        volumes in mL and EF in percent.
    """
    edv, esv = volume_at(heart, 0.0), volume_at(heart, 1.0)
    return Volumes(edv=edv, esv=esv, ef=100.0 * (1.0 - esv / edv))


def volume_at(heart: Heart, contraction: float) -> float:
    """Volume of the contour drawn at a contraction between 0 (end diastole) and 1, in mL; see :func:`volumes`."""
    beat = Beat(np.array([contraction]), np.zeros(1), np.zeros(1))
    shape = deform(heart, beat)
    return _volume_ml(
        shape, length_mm=float(long_axis_mm(heart, beat.contraction)[0]), rest_mm=heart.traits.lv_length_mm
    )


def _volume_ml(shape: Shape, *, length_mm: float, rest_mm: float | None = None) -> float:
    if shape.polar:
        area_mm2 = 0.5 * float(np.mean(np.square(shape.inner_right))) * 2.0 * np.pi
        return _BULLET_SHARE * area_mm2 * length_mm / 1000.0
    levels = (np.arange(N_DISCS) + 0.5) / N_DISCS * (length_mm if rest_mm is None else rest_mm)
    diameter_mm = np.interp(levels, shape.rows, np.ravel(shape.inner_left + shape.inner_right))
    return float(np.sum(0.25 * np.pi * diameter_mm**2) * length_mm / N_DISCS / 1000.0)


def long_axis_mm(heart: Heart, contraction: np.ndarray) -> np.ndarray:
    """Length of the left ventricle from apex to valve plane at each contraction, in mm, shape of the input."""
    traits = heart.traits
    strain = traits.long_strain_share * traits.ef_target_pct / 100.0
    return traits.lv_length_mm * (1.0 - strain * contraction)


def deform(heart: Heart, beat: Beat) -> Shape:
    """Widths of every row at every moment, addressed by the rows of end diastole.

    Args:
        heart: whose.
        beat: T moments.

    Returns:
        a Shape whose widths have shape (T, n_rows).
    """
    c = beat.contraction[:, None]
    stretch = heart.traits.lv_length_mm / long_axis_mm(heart, beat.contraction)[:, None]
    return _deform_polar(heart, c, stretch) if heart.rest.polar else _deform_apical(heart, c, stretch, beat)


def _deform_apical(heart: Heart, c: np.ndarray, stretch: np.ndarray, beat: Beat) -> Shape:
    traits, rest = heart.traits, heart.rest
    x = rest.rows / traits.lv_length_mm
    atrial = np.clip((rest.rows - traits.lv_length_mm) / (6.0 * traits.body_scale) + 0.5, 0.0, 1.0)
    fill = 1.0 + 0.08 * c - 0.16 * beat.atrial_kick[:, None]
    left = _narrowed(rest.inner_left, heart, c * _regional(x, traits, side=1.0), fill, atrial)
    right = _narrowed(rest.inner_right, heart, c * _regional(x, traits, side=-1.0), fill, atrial)
    stretch = 1.0 + (stretch - 1.0) * (1.0 - atrial)
    right_fill = (1.0 - traits.rv_shortening_share * c) * (1.0 - atrial) + fill * atrial
    return dataclasses.replace(
        rest,
        inner_left=left,
        inner_right=right,
        wall_left=_thickened(rest.inner_left, rest.wall_left, left, stretch),
        wall_right=_thickened(rest.inner_right, rest.wall_right, right, stretch),
        right_cavity=rest.right_cavity * right_fill,
        right_wall=np.broadcast_to(rest.right_wall, left.shape),
        centre=np.broadcast_to(rest.centre, left.shape),
    )


def _regional(x: np.ndarray, traits: Traits, *, side: float) -> np.ndarray:
    """How much of the mean narrowing each row takes part in: wall-motion differences of septum and apex."""
    apex = np.cos(np.pi * np.clip(x, 0.0, 1.0))
    return 1.0 + side * traits.septal_motion_share + 0.7 * traits.apical_motion_share * apex


def _narrowed(width: np.ndarray, heart: Heart, c: np.ndarray, fill: np.ndarray, atrial: np.ndarray) -> np.ndarray:
    return width * ((1.0 - heart.narrowing * c) * (1.0 - atrial) + fill * atrial)


def _thickened(inner: np.ndarray, wall: np.ndarray, inner_now: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Wall thickness that keeps the wall's volume (ring area times length) when the cavity narrows and shortens."""
    ring = (inner + wall) ** 2 - inner**2
    return np.sqrt(inner_now**2 + ring * stretch) - inner_now


def _deform_polar(heart: Heart, c: np.ndarray, stretch: np.ndarray) -> Shape:
    traits, rest = heart.traits, heart.rest
    septal = np.cos(rest.rows - np.deg2rad(traits.rv_direction_deg + traits.tilt_deg))
    regional = 1.0 + traits.septal_motion_share * septal + 0.5 * traits.apical_motion_share * np.sin(rest.rows)
    inner = rest.inner_right * (1.0 - heart.narrowing * c * regional)
    return dataclasses.replace(
        rest,
        inner_right=inner,
        wall_right=_thickened(rest.inner_right, rest.wall_right, inner, stretch),
        right_cavity=rest.right_cavity * (1.0 - traits.rv_shortening_share * c),
        right_wall=np.broadcast_to(rest.right_wall, inner.shape),
    )


def beat_at(traits: Traits, time_s: np.ndarray) -> Beat:
    """State of the heart at the given moments.

    Args:
        traits: the patient's numbers.
        time_s: moments in seconds, shape (T,); time 0 is an end diastole.

    Returns:
        the states, shape (T,) each.
    """
    sway = np.sin(2.0 * np.pi * traits.breathing_hz * time_s)
    phase = np.mod(time_s * traits.heart_rate_bpm / 60.0 + 0.03 * sway, 1.0)
    end = traits.systole_share
    early = end + 0.22 * (1.0 - end)
    kick = 1.0 - 0.28 * (1.0 - end)
    late_volume = 1.0 - traits.early_filling_share
    contraction = _curve(
        (0.0, 0.5 * end, end, early, kick, 1.0), (0.0, 0.62, 1.0, 0.5 + 0.5 * late_volume, late_volume, 0.0)
    )
    opening = _curve(
        (0.0, 0.04, end, end + 0.07, early, 0.5 * (early + kick), kick + 0.08, 1.0), (0.1, 0, 0, 1, 0.7, 0.4, 0.85, 0.1)
    )
    atrial_kick = _curve((0.0, 0.15, kick, 0.5 * (kick + 1.0), 1.0), (0.6, 0.0, 0.0, 1.0, 0.6))
    return Beat(contraction=contraction(phase), opening=opening(phase), atrial_kick=atrial_kick(phase))


def _curve(phases: tuple[float, ...], values: tuple[float, ...]) -> PchipInterpolator:
    return PchipInterpolator(phases, values)


def breathing_mm(traits: Traits, time_s: np.ndarray) -> np.ndarray:
    """Displacement of the whole heart by breathing, (lateral, depth) in mm, shape (T, 2)."""
    wave = traits.breathing_mm * np.sin(2.0 * np.pi * traits.breathing_hz * time_s + 1.0)
    return np.stack([_BREATHING_SWAY * wave, wave], axis=-1)


def stretch_knots(heart: Heart, beat: Beat) -> tuple[np.ndarray, np.ndarray]:
    """How row addresses move: a piecewise linear map from where a row is to where it rests.

    Args:
        heart: whose.
        beat: T moments.

    Returns:
        (now, rest): heights in mm, shapes (T, 6) and (6,), for an apical view; turned angles in radians, shapes (T, 1)
        and (1,), for the short axis.
    """
    traits = heart.traits
    if heart.rest.polar:
        return np.deg2rad(traits.twist_deg) * beat.contraction[:, None], np.zeros(1)
    length = traits.lv_length_mm
    roof = length + traits.la_length_mm
    far = 90.0 * traits.body_scale
    rest = np.array([-far, -traits.apex_wall_mm, 0.0, length, roof, roof + far])
    shortened = (length - long_axis_mm(heart, beat.contraction))[:, None]
    return rest + shortened * np.array([0.0, 0.1, 0.1, -0.9, -0.12, 0.0]), rest


def leaflets(heart: Heart, beat: Beat) -> np.ndarray:
    """Mitral and tricuspid leaflets, each bent once between hinge and tip.

    Args:
        heart: whose.
        beat: T moments.

    Returns:
        segments (start s, start v, end s, end v) in mm, shape (T, 8, 4); shape (T, 0, 4) in the short axis.
    """
    traits = heart.traits
    if heart.rest.polar:
        return np.zeros((len(beat.contraction), 0, 4))
    now, rest = stretch_knots(heart, beat)
    knots = deform(heart, beat).knots
    mitral = _valve(heart, knots, (now, rest), at_mm=traits.lv_length_mm, sides=(4, 5))
    tricuspid_mm = traits.lv_length_mm - traits.tricuspid_offset_mm
    tricuspid = _valve(heart, knots, (now, rest), at_mm=tricuspid_mm, sides=(2, 3))
    shares = (traits.anterior_leaflet_share, 1.0 - traits.anterior_leaflet_share)
    parts = [
        _leaflet(valve, side, share, beat.opening) for valve in (mitral, tricuspid) for side, share in enumerate(shares)
    ]
    return np.concatenate(parts, axis=1)


def _valve(
    heart: Heart, knots: np.ndarray, stretch: tuple[np.ndarray, np.ndarray], *, at_mm: float, sides: tuple[int, int]
) -> np.ndarray:
    """Height and both hinges of a valve, shape (T, 3)."""
    rows = heart.rest.rows
    row = int(np.argmin(np.abs(rows - at_mm)))
    height = np.array([np.interp(rows[row], stretch[1], now) for now in stretch[0]])
    return np.stack([height, knots[:, row, sides[0]], knots[:, row, sides[1]]], axis=1)


def _leaflet(valve: np.ndarray, side: int, share: float, opening: np.ndarray) -> np.ndarray:
    """One leaflet: a shallow tent when closed, turned towards the apex when open, shape (T, 2, 4)."""
    reach = share * np.maximum(valve[:, 2] - valve[:, 1], 0.0) * (0.54 - 0.08 * opening)
    inward = 1.0 if side == 0 else -1.0
    points = [(valve[:, 0], valve[:, 1 + side])]
    for closed_deg, open_deg in ((4.0, 76.0), (26.0, 56.0)):
        angle = np.deg2rad(closed_deg + (open_deg - closed_deg) * opening)
        s, v = points[-1]
        points.append((s - reach * np.sin(angle), v + inward * reach * np.cos(angle)))
    segments = [np.stack([*start, *end], axis=1) for start, end in pairwise(points)]
    return np.stack(segments, axis=1)
