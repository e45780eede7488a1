"""Byte codes for a weighted-L1 head: which features go where, and how wide one step is."""

import numpy as np
from jaxtyping import Float, Float64, Int64

from mnemoscope.search.kernels import Code
from mnemoscope.search.sad import GROUP

# Rows of each side that decide the step; any step is exact, a good one leaves fewer columns to the float64 kernel.
SAMPLE_ROWS = 512
# How often the step may be halved below the one that spans the widest feature: outliers are then cut, not served.
HALVINGS = 6
LARGEST_BYTE = 255.0


def plan_code(
    query: Float[np.ndarray, "N D"], gallery: Float[np.ndarray, "M D"], weight: Float64[np.ndarray, " D"]
) -> Code:
    """The code with the smallest error of the median row in a sample of both sides.

    Args:
        query: features, shape (N, D).
        gallery: features, shape (M, D).
        weight: of each feature in the cost, of either sign, shape (D,); features of weight 0 are left out.
    """
    adding, taking = _padded(np.flatnonzero(weight > 0)), _padded(np.flatnonzero(weight < 0))
    order = np.concatenate([adding, taking])
    size = np.where(order < 0, 0.0, np.abs(weight)[order])
    sample = np.concatenate([_strided(query), _strided(gallery)]).astype(np.float64)[:, order]
    unit, low = _best_step(sample, size)
    return Code(order, low, size / unit, adding.size // GROUP, unit)


def _padded(features: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " padded"]:
    return np.pad(features, (0, -features.size % GROUP), constant_values=-1).astype(np.int64)


def _strided(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "at_most_n D"]:
    return rows[:: max(1, len(rows) // SAMPLE_ROWS)][:SAMPLE_ROWS]


def _best_step(
    sample: Float64[np.ndarray, "n places"], size: Float64[np.ndarray, " places"]
) -> tuple[float, np.ndarray]:
    widest = float(np.max(np.ptp(sample, axis=0) * size, initial=0.0))
    if widest == 0:
        return 1.0, sample.min(axis=0, initial=0.0)
    units = widest / LARGEST_BYTE * 0.5 ** np.arange(HALVINGS)
    errors = [unit * _coding_error(sample, size / unit) for unit in units]
    unit = float(units[int(np.argmin(errors))])
    return unit, _lowest_value(sample, size / unit)


def _lowest_value(sample: Float64[np.ndarray, "n places"], gain: Float64[np.ndarray, " places"]) -> np.ndarray:
    """The value of byte 0: the whole range where it fits, else a window around the median that stays inside."""
    window = np.divide(LARGEST_BYTE, gain, out=np.full(gain.shape, np.inf), where=gain > 0)
    low, high = sample.min(axis=0), sample.max(axis=0)
    centred = np.median(sample, axis=0) - 0.5 * window
    return np.where(window >= high - low, low, np.clip(centred, low, high - window))


def _coding_error(sample: Float64[np.ndarray, "n places"], gain: Float64[np.ndarray, " places"]) -> float:
    steps = (sample - _lowest_value(sample, gain)) * gain
    error = np.abs(steps - np.clip(np.rint(steps), 0.0, LARGEST_BYTE)).mean(axis=1)
    # The median, because a few wild rows cost less when cut than a step that serves them costs all others.
    return float(np.median(error))
