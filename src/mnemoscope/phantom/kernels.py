"""Kernels: the compiled inner loops of the renderer; plain arrays in, plain arrays out."""

from math import atan2, cos, exp, floor, pi, sin, sqrt

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True, inline="always")
def _piecewise(x, now, rest):  # type: ignore[no-untyped-def]
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
def _across_row(b, row, now, rest):  # type: ignore[no-untyped-def]
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
def _at_rest(down, across, polar, stretch_now, stretch_rest, knots_now, knots_rest, row_map):  # type: ignore[no-untyped-def]
    """Resting place (down, across) in mm of the tissue that is now at (down, across)."""
    n = knots_now.shape[0]
    if polar:
        phi = atan2(down, across) - stretch_now[0]
        turns = phi / (2.0 * pi)
        row = np.float32((turns - floor(turns)) * n)
        if row >= n:
            row = np.float32(0.0)
        rho = _across_row(sqrt(down * down + across * across), row, knots_now, knots_rest)
        return rho * sin(phi), rho * cos(phi)
    s = _piecewise(down, stretch_now, stretch_rest)
    row = min(max((s - row_map[0]) / row_map[1], np.float32(0.0)), np.float32(n - 1.001))
    return s, _across_row(across, row, knots_now, knots_rest)


@njit(cache=True, fastmath=True, inline="always")
def _sample(grid, i, j):  # type: ignore[no-untyped-def]
    """Bilinear value at fractional (i, j), held constant beyond the border."""
    i = min(max(i, np.float32(0.0)), np.float32(grid.shape[0] - 1.001))
    j = min(max(j, np.float32(0.0)), np.float32(grid.shape[1] - 1.001))
    i0, j0 = int(i), int(j)
    fi, fj = i - i0, j - j0
    top = grid[i0, j0] + fj * (grid[i0, j0 + 1] - grid[i0, j0])
    bottom = grid[i0 + 1, j0] + fj * (grid[i0 + 1, j0 + 1] - grid[i0 + 1, j0])
    return top + fi * (bottom - top)


@njit(cache=True, fastmath=True, inline="always")
def _sample_tile(tile, i, j):  # type: ignore[no-untyped-def]
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
def _leaflet_share(down, across, leaflets, inverse2):  # type: ignore[no-untyped-def]
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
def _echoes(  # type: ignore[no-untyped-def]
    level,
    sines,
    cosines,
    step_mm,
    pose,
    stretch_now,
    stretch_rest,
    knots_now,
    knots_rest,
    row_map,
    polar,
    tissue,
    grid,
    leaflets,
    valve,
    speckle,
    speckle_level,
):
    """Echo level of the tissue met at each depth of each beam."""
    inverse = np.float32(1.0) / grid[2]
    inverse2 = np.float32(1.0) / (valve[1] * valve[1])
    for i in range(level.shape[0]):
        radius = np.float32((i + 0.5) * step_mm)
        for j in range(level.shape[1]):
            x, z = radius * sines[j] - pose[0], radius * cosines[j] - pose[1]
            down, across = x * pose[2] + z * pose[3], x * pose[3] - z * pose[2]
            a, b = _at_rest(down, across, polar, stretch_now, stretch_rest, knots_now, knots_rest, row_map)
            value = _sample(tissue, np.float32((a - grid[0]) * inverse), np.float32((b - grid[1]) * inverse))
            grain = _sample_tile(speckle, a * grid[3], b * grid[3])
            share = _leaflet_share(down, across, leaflets, inverse2)
            value += share * (max(valve[0], value) - value)
            level[i, j] = value + speckle_level * min(value + np.float32(0.06), np.float32(0.55)) * grain


@njit(cache=True, fastmath=True)
def _blur_and_display(level, shown, weights, offset, haze, noise, noise_depth, start):  # type: ignore[no-untyped-def]
    """Widen each echo across the beams, then add noise, gain and haze."""
    half = weights.shape[0] // 2
    last = level.shape[1] - 1
    bits = noise.shape[0] - 1
    for i in range(level.shape[0]):
        row = (i + start[0]) & bits
        for j in range(level.shape[1]):
            total = np.float32(0.0)
            for k in range(weights.shape[0]):
                total += weights[k] * level[i, min(max(j + k - half, 0), last)]
            total += noise_depth[i] * noise[row, (j + start[1]) & bits] + offset[i, j]
            shown[i, j] = total + (np.float32(1.0) - total) * haze[i, j]


@njit(cache=True, fastmath=True)
def _scan_convert(frame, shown, depth, beam, inside, contrast):  # type: ignore[no-untyped-def]
    """Bring beam space onto the image and its display range; black outside the sector."""
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            if inside[y, x] <= 0.0:
                frame[y, x] = 0
                continue
            value = _sample(shown, depth[y, x], beam[y, x])
            value = (np.float32(0.4) + (value - np.float32(0.4)) * contrast) * inside[y, x]
            frame[y, x] = int(min(max(value, np.float32(0.0)), np.float32(1.0)) * 255.0 + 0.5)


@njit(cache=True, fastmath=True)
def render_frames(  # type: ignore[no-untyped-def]
    frames,
    sines,
    cosines,
    step_mm,
    poses,
    stretch_now,
    stretch_rest,
    knots_now,
    knots_rest,
    row_map,
    polar,
    tissue,
    grid,
    leaflets,
    valve,
    offset,
    haze,
    speckle,
    speckle_level,
    noise,
    noise_depth,
    starts,
    weights,
    depth,
    beam,
    inside,
    contrast,
):
    """Draw every frame into ``frames``; see ``render`` for the arrays."""
    level = np.empty((offset.shape[0], offset.shape[1]), dtype=np.float32)
    shown = np.empty_like(level)
    for t in range(frames.shape[0]):
        _echoes(
            level,
            sines,
            cosines,
            step_mm,
            poses[t],
            stretch_now[t],
            stretch_rest,
            knots_now[t],
            knots_rest,
            row_map,
            polar,
            tissue,
            grid,
            leaflets[t],
            valve,
            speckle,
            np.float32(speckle_level),
        )
        _blur_and_display(level, shown, weights, offset, haze, noise, noise_depth, starts[t])
        _scan_convert(frames[t], shown, depth, beam, inside, np.float32(contrast))


@njit(cache=True, fastmath=True)
def cavity_mask(  # type: ignore[no-untyped-def]
    mask,
    mm_per_px,
    top_px,
    pose,
    stretch_now,
    stretch_rest,
    knots_now,
    knots_rest,
    row_map,
    polar,
    length_mm,
):
    """Mark the pixels whose tissue rests inside the left ventricle's cavity."""
    centre = np.float32(0.5 * (mask.shape[1] - 1))
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            px, pz = np.float32((x - centre) * mm_per_px) - pose[0], np.float32((y - top_px) * mm_per_px) - pose[1]
            down, across = px * pose[2] + pz * pose[3], px * pose[3] - pz * pose[2]
            a, b = _at_rest(down, across, polar, stretch_now, stretch_rest, knots_now, knots_rest, row_map)
            if polar:
                turns = atan2(a, b) / (2.0 * pi)
                row = int((turns - floor(turns)) * knots_rest.shape[0]) % knots_rest.shape[0]
                mask[y, x] = a * a + b * b < knots_rest[row, 1] ** 2
            else:
                row = int(min(max((a - row_map[0]) / row_map[1] + 0.5, 0.0), knots_rest.shape[0] - 1.0))
                mask[y, x] = 0.0 < a < length_mm and knots_rest[row, 4] < b < knots_rest[row, 5]
