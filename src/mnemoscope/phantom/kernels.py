"""Kernels: the compiled inner loops of the renderer; tuples of float32 arrays in, pixels out."""

from math import atan2, cos, exp, floor, pi, sin, sqrt
from typing import Any, NamedTuple

import numpy as np
from numba import njit

# numba keeps float32 apart from float, the type checker cannot.
Number = Any


class Fan(NamedTuple):
    """Beams of a recording and how they come onto the image.

    Attributes:
        sines, cosines: direction of each beam, shape (n_beams,).
        step_mm: distance of two depths.
        blur: weights across neighbouring beams, odd length.
        depth, beam: fractional indices of each pixel, shape (112, 112).
        inside: share of each pixel inside the sector, shape (112, 112).
    """

    sines: np.ndarray
    cosines: np.ndarray
    step_mm: float
    blur: np.ndarray
    depth: np.ndarray
    beam: np.ndarray
    inside: np.ndarray


class Warp(NamedTuple):
    """Where the moving heart is in each of T frames, and where its tissue rests.

    Attributes:
        polar: rows are directions (short axis), not heights (apical).
        poses: origin (lateral, depth) in mm, sine and cosine of the tilt, shape (T, 4).
        stretch, stretch_rest: knots along the rows' addresses, shapes (T, n) and (n,).
        knots, knots_rest: knots along each row, shapes (T, n_rows, m) and (n_rows, m).
        first_row, row_step: address of row 0 and distance of two rows.
        leaflets: segments (start s, v, end s, v) in mm, shape (T, n_segments, 4).
    """

    polar: bool
    poses: np.ndarray
    stretch: np.ndarray
    stretch_rest: np.ndarray
    knots: np.ndarray
    knots_rest: np.ndarray
    first_row: np.float32
    row_step: np.float32
    leaflets: np.ndarray


class Tissue(NamedTuple):
    """What echoes: the patient's resting map, valves, and the speckle carried by the tissue.

    Attributes:
        level: echo level at rest, shape (n, n), first cell at (down_mm, across_mm).
        cells_per_mm: density of the map.
        valve_level, valve_mm: echo level and half-thickness of the leaflets.
        speckle: periodic tile with a power of two on a side.
        grains_per_mm: density of the tile.
        speckle_level: its standard deviation where tissue is brightest.
    """

    level: np.ndarray
    down_mm: np.float32
    across_mm: np.float32
    cells_per_mm: np.float32
    valve_level: np.float32
    valve_mm: np.float32
    speckle: np.ndarray
    grains_per_mm: np.float32
    speckle_level: np.float32


class Display(NamedTuple):
    """What the recording adds: see ``acquisition.BeamField``; ``starts`` places the noise tile, shape (T, 2)."""

    offset: np.ndarray
    haze: np.ndarray
    noise: np.ndarray
    noise_depth: np.ndarray
    starts: np.ndarray
    contrast: np.float32


@njit(cache=True, fastmath=True, inline="always")
def _piecewise(x: Number, now: np.ndarray, rest: np.ndarray) -> Number:
    """Where ``x`` rests, by linear interpolation between knots; beyond the ends it moves with the end."""
    last = now.shape[0] - 1
    if x <= now[0]:
        return x - now[0] + rest[0]
    for k in range(last):
        if x < now[k + 1]:
            share = (x - now[k]) / max(now[k + 1] - now[k], np.float32(1e-4))
            return rest[k] + share * (rest[k + 1] - rest[k])
    return x - now[last] + rest[last]


@njit(cache=True, fastmath=True, inline="always")
def _across_row(b: Number, row: Number, now: np.ndarray, rest: np.ndarray) -> Number:
    """The same along a row at fractional index ``row``, its knots interpolated between the two nearest rows."""
    i = int(row)
    f = row - i
    j = i + 1
    n = now.shape[0]
    if j >= n:
        j = j - n
    left_now = now[i, 0] + f * (now[j, 0] - now[i, 0])
    left_rest = rest[i, 0] + f * (rest[j, 0] - rest[i, 0])
    if b <= left_now:
        return b - left_now + left_rest
    for k in range(1, now.shape[1]):
        right_now = now[i, k] + f * (now[j, k] - now[i, k])
        right_rest = rest[i, k] + f * (rest[j, k] - rest[i, k])
        if b < right_now:
            share = (b - left_now) / max(right_now - left_now, np.float32(1e-4))
            return left_rest + share * (right_rest - left_rest)
        left_now = right_now
        left_rest = right_rest
    return b - left_now + left_rest


@njit(cache=True, fastmath=True, inline="always")
def _at_rest(down: Number, across: Number, warp: Warp, t: int) -> tuple[Number, Number]:
    """Resting place (down, across) in mm of the tissue that is at (down, across) in frame t."""
    n = warp.knots_rest.shape[0]
    if warp.polar:
        phi = atan2(down, across) - warp.stretch[t, 0]
        turns = phi / (2.0 * pi)
        row = np.float32((turns - floor(turns)) * n)
        if row >= n:
            row = np.float32(0.0)
        rho = _across_row(sqrt(down * down + across * across), row, warp.knots[t], warp.knots_rest)
        return rho * sin(phi), rho * cos(phi)
    s = _piecewise(down, warp.stretch[t], warp.stretch_rest)
    row = min(max((s - warp.first_row) / warp.row_step, np.float32(0.0)), np.float32(n - 1.001))
    return s, _across_row(across, row, warp.knots[t], warp.knots_rest)


@njit(cache=True, fastmath=True, inline="always")
def _in_heart(x: Number, z: Number, pose: np.ndarray) -> tuple[Number, Number]:
    """Place in the heart's own directions (down, across) of a point (lateral, depth) seen from the probe."""
    x, z = x - pose[0], z - pose[1]
    return x * pose[2] + z * pose[3], x * pose[3] - z * pose[2]


@njit(cache=True, fastmath=True, inline="always")
def _sample(grid: np.ndarray, i: Number, j: Number) -> Number:
    """Bilinear value at fractional (i, j), held constant beyond the border."""
    i = min(max(i, np.float32(0.0)), np.float32(grid.shape[0] - 1.001))
    j = min(max(j, np.float32(0.0)), np.float32(grid.shape[1] - 1.001))
    i0, j0 = int(i), int(j)
    fi, fj = i - i0, j - j0
    top = grid[i0, j0] + fj * (grid[i0, j0 + 1] - grid[i0, j0])
    bottom = grid[i0 + 1, j0] + fj * (grid[i0 + 1, j0 + 1] - grid[i0 + 1, j0])
    return top + fi * (bottom - top)


@njit(cache=True, fastmath=True, inline="always")
def _sample_tile(tile: np.ndarray, i: Number, j: Number) -> Number:
    """Bilinear value of a periodic tile whose sides are powers of two."""
    bits = tile.shape[0] - 1
    low_i, low_j = floor(i), floor(j)
    fi, fj = np.float32(i - low_i), np.float32(j - low_j)
    i0, j0 = int(low_i) & bits, int(low_j) & bits
    i1, j1 = (i0 + 1) & bits, (j0 + 1) & bits
    top = tile[i0, j0] + fj * (tile[i0, j1] - tile[i0, j0])
    bottom = tile[i1, j0] + fj * (tile[i1, j1] - tile[i1, j0])
    return top + fi * (bottom - top)


@njit(cache=True, fastmath=True, inline="always")
def _leaflet_share(down: Number, across: Number, leaflets: np.ndarray, inverse2: Number) -> Number:
    """How much of a point belongs to the nearest leaflet, in [0, 1]."""
    best = np.float32(1e9)
    for k in range(leaflets.shape[0]):
        ds, dv = leaflets[k, 2] - leaflets[k, 0], leaflets[k, 3] - leaflets[k, 1]
        s, v = down - leaflets[k, 0], across - leaflets[k, 1]
        share = min(max((s * ds + v * dv) / (ds * ds + dv * dv + np.float32(1e-6)), np.float32(0.0)), np.float32(1.0))
        s, v = s - share * ds, v - share * dv
        best = min(best, s * s + v * v)
    scaled = best * inverse2
    if scaled > 12.0:
        return np.float32(0.0)
    return np.float32(exp(-0.5 * scaled))


@njit(cache=True, fastmath=True)
def _echoes(level: np.ndarray, fan: Fan, warp: Warp, tissue: Tissue, t: int) -> None:
    """Echo level of the tissue met at each depth of each beam."""
    inverse2 = np.float32(1.0) / (tissue.valve_mm * tissue.valve_mm)
    for i in range(level.shape[0]):
        radius = np.float32((i + 0.5) * fan.step_mm)
        for j in range(level.shape[1]):
            down, across = _in_heart(radius * fan.sines[j], radius * fan.cosines[j], warp.poses[t])
            a, b = _at_rest(down, across, warp, t)
            row = np.float32((a - tissue.down_mm) * tissue.cells_per_mm)
            column = np.float32((b - tissue.across_mm) * tissue.cells_per_mm)
            value = _sample(tissue.level, row, column)
            grain = _sample_tile(tissue.speckle, a * tissue.grains_per_mm, b * tissue.grains_per_mm)
            share = _leaflet_share(down, across, warp.leaflets[t], inverse2)
            value += share * (max(tissue.valve_level, value) - value)
            level[i, j] = value + tissue.speckle_level * min(value + np.float32(0.06), np.float32(0.55)) * grain


@njit(cache=True, fastmath=True)
def _blur_and_lift(level: np.ndarray, shown: np.ndarray, blur: np.ndarray, display: Display, t: int) -> None:
    """Widen each echo across the beams, then add noise, gain and haze."""
    half, last, bits = blur.shape[0] // 2, level.shape[1] - 1, display.noise.shape[0] - 1
    for i in range(level.shape[0]):
        row = (i + display.starts[t, 0]) & bits
        for j in range(level.shape[1]):
            total = np.float32(0.0)
            for k in range(blur.shape[0]):
                total += blur[k] * level[i, min(max(j + k - half, 0), last)]
            noise = display.noise_depth[i] * display.noise[row, (j + display.starts[t, 1]) & bits]
            total += noise + display.offset[i, j]
            shown[i, j] = total + (np.float32(1.0) - total) * display.haze[i, j]


@njit(cache=True, fastmath=True)
def _scan_convert(frame: np.ndarray, shown: np.ndarray, fan: Fan, contrast: Number) -> None:
    """Bring beam space onto the image and its display range; black outside the sector."""
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            if fan.inside[y, x] <= 0.0:
                frame[y, x] = 0
                continue
            value = _sample(shown, fan.depth[y, x], fan.beam[y, x])
            value = (np.float32(0.4) + (value - np.float32(0.4)) * contrast) * fan.inside[y, x]
            frame[y, x] = int(min(max(value, np.float32(0.0)), np.float32(1.0)) * 255.0 + 0.5)


@njit(cache=True, fastmath=True)
def render_frames(frames: np.ndarray, fan: Fan, warp: Warp, tissue: Tissue, display: Display) -> None:
    """Draw every frame into ``frames``, uint8, shape (T, 112, 112)."""
    level = np.empty(display.offset.shape, dtype=np.float32)
    shown = np.empty_like(level)
    for t in range(frames.shape[0]):
        _echoes(level, fan, warp, tissue, t)
        _blur_and_lift(level, shown, fan.blur, display, t)
        _scan_convert(frames[t], shown, fan, display.contrast)


@njit(cache=True, fastmath=True)
def resting_places(places: np.ndarray, mm_per_px: Number, top_px: Number, warp: Warp) -> None:
    """Write where the tissue of each pixel rests, (down, across) in mm, shape (T, H, W, 2)."""
    centre = 0.5 * (places.shape[2] - 1)
    for t in range(places.shape[0]):
        for y in range(places.shape[1]):
            for x in range(places.shape[2]):
                lateral, depth = np.float32((x - centre) * mm_per_px), np.float32((y - top_px) * mm_per_px)
                down, across = _in_heart(lateral, depth, warp.poses[t])
                places[t, y, x, 0], places[t, y, x, 1] = _at_rest(down, across, warp, t)
