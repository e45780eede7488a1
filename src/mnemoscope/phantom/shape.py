"""Shape: a patient's heart at end diastole as rows of boundaries ("knots") along a line.

The apical views cut the heart into rows across the left ventricle's long axis: a row is a height ``s`` in mm below the
apex, and its knots are the lateral places where right-heart wall, right cavity, septum, left cavity and lateral wall
begin and end. The short axis has one row per direction from the centre, with knots at growing radius. Both
deform by moving knots, so every tissue point keeps its address.
"""

from dataclasses import dataclass

import numpy as np

from mnemoscope.phantom.anatomy import Traits, View

GRID = 256
_FAR_MM = 120.0


@dataclass(frozen=True, eq=False)
class Shape:
    """Widths along each row, in mm, all of shape (n_rows,).

    Attributes:
        polar: rows are directions in radians (short axis) instead of heights in mm (apical).
        rows: address of each row.
        centre: lateral place of the left ventricle's axis; zero in the short axis.
        inner_left: half-width of the left cavity (ventricle, below its base the atrium), septal side.
        inner_right: the same on the lateral side; in the short axis the cavity's radius.
        wall_left: thickness of the septum.
        wall_right: thickness of the lateral wall; in the short axis of the ring.
        right_cavity: width of the right ventricle, below its base of the right atrium.
        right_wall: thickness of the right free wall.
        far_mm: where tissue no longer moves.
    """

    polar: bool
    rows: np.ndarray
    centre: np.ndarray
    inner_left: np.ndarray
    inner_right: np.ndarray
    wall_left: np.ndarray
    wall_right: np.ndarray
    right_cavity: np.ndarray
    right_wall: np.ndarray
    far_mm: float

    @property
    def knots(self) -> np.ndarray:
        """Boundaries in ascending order, shape (n_rows, 8) apical or (n_rows, 6) short axis, in mm."""
        return _polar_knots(self) if self.polar else _apical_knots(self)


def _apical_knots(shape: Shape) -> np.ndarray:
    septum_left = shape.centre - shape.inner_left
    septum_right = septum_left - shape.wall_left
    right_inner = septum_right - shape.right_cavity
    lateral = shape.centre + shape.inner_right
    far = np.broadcast_to(shape.far_mm, lateral.shape)
    columns = (
        -far,
        right_inner - shape.right_wall,
        right_inner,
        septum_right,
        septum_left,
        lateral,
        lateral + shape.wall_right,
        far,
    )
    return np.stack(columns, axis=-1)


def _polar_knots(shape: Shape) -> np.ndarray:
    widths = (shape.inner_right, shape.wall_right, shape.right_cavity, shape.right_wall)
    edges = np.cumsum(np.stack(widths, axis=-1), axis=-1)
    zero = np.zeros_like(edges[..., :1])
    return np.concatenate([zero, edges, zero + shape.far_mm], axis=-1)


def build_shape(view: View, traits: Traits) -> Shape:
    """The patient's heart at end diastole.

    Args:
        view: one of ``anatomy.VIEWS``.
        traits: the patient's numbers.

    Returns:
        the rows of the view; GRID rows.
    """
    return _short_axis_shape(traits) if view == "psax" else _apical_shape(traits)


def grid_pitch_mm(traits: Traits) -> float:
    """Distance of two rows, and of two cells of the tissue map, in mm."""
    return 0.86 * traits.body_scale


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _bullet(x: np.ndarray, *, widest: float, roundness: float, base: float) -> np.ndarray:
    """Half-width of a ventricle from apex (x = 0) to base (x = 1) as a share of the widest."""
    x = np.clip(x, 0.0, 1.0)
    top = np.maximum(1.0 - (1.0 - np.minimum(x / widest, 1.0)) ** 2, 0.0) ** roundness
    below = np.maximum(x - widest, 0.0) / (1.0 - widest)
    return top * (1.0 - (1.0 - base) * below**2)


def _modes(x: np.ndarray, *, bulge: float, wave: float) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return 1.0 + bulge * np.sin(np.pi * x) + wave * np.sin(2.0 * np.pi * x)


def _atrium(y: np.ndarray, *, bulge: float, squareness: float) -> np.ndarray:
    """Half-width of an atrium from its valve (y = 0) to its roof (y = 1) as a share of the width at the valve."""
    y = np.clip(y, 0.0, 1.0)
    return (1.0 - y**2.6) ** squareness * (1.0 + bulge * np.sin(np.pi * y))


def _apical_shape(traits: Traits) -> Shape:
    s = (np.arange(GRID) - 0.32 * GRID) * grid_pitch_mm(traits)
    inner_left, inner_right, wall_left, wall_right = _left_heart(s, traits)
    right_cavity, right_wall = _right_heart(s, traits)
    return Shape(
        polar=False,
        rows=s,
        centre=traits.axis_bow_mm * np.sin(np.pi * np.clip(s / traits.lv_length_mm, 0.0, 1.5)),
        inner_left=inner_left,
        inner_right=inner_right,
        wall_left=wall_left,
        wall_right=wall_right,
        right_cavity=right_cavity,
        right_wall=right_wall,
        far_mm=_FAR_MM * traits.body_scale,
    )


def _left_heart(s: np.ndarray, traits: Traits) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x = s / traits.lv_length_mm
    y = (s - traits.lv_length_mm) / traits.la_length_mm
    septal = _side(x, traits, bulge=traits.septal_bulge_share, wave=traits.septal_wave_share)
    lateral = _side(x, traits, bulge=traits.lateral_bulge_share, wave=traits.lateral_wave_share)
    left = septal * _atrium(y, bulge=0.3 * traits.la_bulge_share, squareness=0.3)
    right = lateral * _atrium(y, bulge=traits.la_bulge_share, squareness=0.55)
    septum = _wall(x, traits, thickness_mm=traits.septum_mm, taper=traits.septum_taper_share)
    free = _wall(x, traits, thickness_mm=traits.lateral_wall_mm, taper=traits.lateral_taper_share)
    at_atrium = _smooth((s - traits.lv_length_mm) / (4.0 * traits.body_scale))
    inside = (y < 1.0).astype(float)
    thin = traits.atrial_septum_mm
    return left, right, septum + at_atrium * (thin * inside - septum), free + at_atrium * (thin * inside - free)


def _side(x: np.ndarray, traits: Traits, *, bulge: float, wave: float) -> np.ndarray:
    bullet = _bullet(x, widest=traits.lv_widest_share, roundness=traits.lv_roundness, base=traits.annulus_share)
    return traits.lv_radius_mm * bullet * _modes(x, bulge=bulge, wave=wave)


def _wall(x: np.ndarray, traits: Traits, *, thickness_mm: float, taper: float) -> np.ndarray:
    """Thickness of a ventricular wall across the axis; above the apex the rest of the cap."""
    cap = traits.apex_wall_mm / traits.lv_length_mm
    shared = {"widest": traits.lv_widest_share, "roundness": traits.lv_roundness}
    outer = (traits.lv_radius_mm + thickness_mm) * _bullet((x + cap) / (1.0 + cap), base=1.0, **shared)
    inner = traits.lv_radius_mm * _bullet(x, base=1.0, **shared)
    return (outer - inner) * (1.0 + taper * (2.0 * np.clip(x, 0.0, 1.0) - 1.0))


def _right_heart(s: np.ndarray, traits: Traits) -> tuple[np.ndarray, np.ndarray]:
    start = traits.rv_start_share * traits.lv_length_mm
    base = traits.lv_length_mm - traits.tricuspid_offset_mm
    y = (s - start) / (base - start)
    ventricle = traits.rv_width_mm * _bullet(y, widest=0.85, roundness=traits.rv_fullness, base=0.92)
    below = _smooth((s - base) / (12.0 * traits.body_scale))
    atrium = _atrium((s - base) / traits.ra_length_mm, bulge=0.25, squareness=0.5)
    width = (ventricle + below * (traits.ra_width_mm - ventricle)) * atrium
    wall = traits.rv_wall_mm * _smooth((s - start) / (8.0 * traits.body_scale) + 1.0) * (atrium > 0.0)
    return width, wall


def _short_axis_shape(traits: Traits) -> Shape:
    phi = np.arange(GRID) * (2.0 * np.pi / GRID)
    turned = phi - np.deg2rad(traits.tilt_deg)
    window = _crescent(turned - np.deg2rad(traits.rv_direction_deg), opening=np.deg2rad(traits.rv_opening_deg) / 2.0)
    bumps = (
        traits.septal_bulge_share * np.cos(2.0 * turned)
        + traits.lateral_bulge_share * np.sin(2.0 * turned)
        + traits.septal_wave_share * np.cos(3.0 * turned)
        + traits.lateral_wave_share * np.sin(3.0 * turned)
    )
    septal = 0.5 + 0.5 * np.cos(turned - np.deg2rad(traits.rv_direction_deg))
    taper = 1.0 + 0.4 * traits.septum_taper_share * np.cos(turned + 0.7)
    wall = (traits.lateral_wall_mm + septal * (traits.septum_mm - traits.lateral_wall_mm)) * taper
    zeros = np.zeros(GRID)
    return Shape(
        polar=True,
        rows=phi,
        centre=zeros,
        inner_left=zeros,
        inner_right=traits.lv_radius_mm * (1.0 + bumps),
        wall_left=zeros,
        wall_right=wall,
        right_cavity=traits.rv_width_mm * window ** (0.5 + 0.5 * traits.rv_fullness),
        right_wall=traits.rv_wall_mm * (0.35 + 0.65 * window),
        far_mm=_FAR_MM * traits.body_scale,
    )


def _crescent(phi: np.ndarray, *, opening: float) -> np.ndarray:
    """Width of the right ventricle around the septum as a share of the widest; zero outside the opening."""
    away = np.abs(np.angle(np.exp(1j * phi)))
    return np.cos(0.5 * np.pi * np.minimum(away / opening, 1.0)) ** 2


def row_at(shape: Shape, address: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """A per-row number at any address, by linear interpolation between rows.

    Args:
        shape: whose rows.
        address: heights in mm (apical) or directions in radians (short axis), any shape.
        widths: one number per row, shape (n_rows,).

    Returns:
        interpolated numbers, shape of ``address``.
    """
    period = 2.0 * np.pi if shape.polar else None
    return np.interp(address, shape.rows, widths, period=period)
