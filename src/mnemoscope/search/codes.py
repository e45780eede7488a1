"""Byte codes for a weighted-L1 head: which features go where, and how wide one step is.

All features share one step, so that their byte differences can be summed. A feature whose weighted range is wider than
255 steps takes several bytes, each counting its own 255 steps of the range and resting at its end outside it: their
differences add up to the feature's. A few bytes more thus buy a fine step under weights of very different size.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from mnemoscope.core.errors import Mismatch
from mnemoscope.search.kernels import Code
from mnemoscope.search.sad import GROUP

# Rows of each side that decide the step; any step is exact, a good one leaves fewer columns to the float64 kernel.
SAMPLE_ROWS = 512
LARGEST_BYTE = 255.0
# The screen's time grows with its bytes: so many for each feature, on average, are worth a finer step.
BYTES_PER_FEATURE = 1.25
HALVINGS = 12
# Shares cut off at each end of a feature's range: none, or a few wild rows that would coarsen the step for all others.
CUTS = (0.0, 0.01)
# Sums of so many bytes are still exact in float32.
MOST_FEATURES = 50_000


@dataclass(frozen=True, eq=False)
class Windows:
    """The coded range of each feature: from ``low`` on, ``gain`` steps per unit, ``n_bytes`` long; ``unit`` a step."""

    low: Float64[np.ndarray, " D"]
    gain: Float64[np.ndarray, " D"]
    n_bytes: Int64[np.ndarray, " D"]
    unit: float

    def error_of_median_row(self, sample: Float64[np.ndarray, "n D"]) -> float:
        """Coding error in cost; of the median row, because wild rows are few and may cost more time."""
        steps = (sample - self.low) * self.gain
        error = np.abs(steps - np.clip(np.rint(steps), 0.0, LARGEST_BYTE * self.n_bytes))
        return self.unit * float(np.median(error.sum(axis=1)))


def plan_code(
    query: Float[np.ndarray, "N D"], gallery: Float[np.ndarray, "M D"], weight: Float64[np.ndarray, " D"]
) -> Code:
    """The code with the smallest error of the median row in a sample of both sides.

    Args:
        query: features, shape (N, D).
        gallery: features, shape (M, D).
        weight: of each feature in the cost, of either sign, shape (D,); features of weight 0 are left out.

    Raises:
        Mismatch: with more features than sums in float32 can hold.
    """
    if weight.size > MOST_FEATURES:
        raise Mismatch(
            f"a weighted-L1 search takes at most {MOST_FEATURES} features, found {weight.size}; "
            f"use a re-identification model with fewer (query=, gallery=, --reid)"
        )
    used = np.flatnonzero(weight)
    sample = np.concatenate([_strided(query), _strided(gallery)]).astype(np.float64)[:, used]
    if used.size == 0:
        return _laid_out(used, weight, Windows(np.empty(0), np.empty(0), used, 1.0))
    ranges = (np.quantile(sample, (cut, 1.0 - cut), axis=0) for cut in CUTS)
    plans = [_windows(low, high, np.abs(weight[used])) for low, high in ranges]
    return _laid_out(used, weight, min(plans, key=lambda plan: plan.error_of_median_row(sample)))


def _strided(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "at_most_n D"]:
    return rows[:: max(1, len(rows) // SAMPLE_ROWS)][:SAMPLE_ROWS]


def _windows(low: np.ndarray, high: np.ndarray, size: Float64[np.ndarray, " D"]) -> Windows:
    """Windows from low to high with the finest step that the budget of bytes allows."""
    spans = (high - low) * size
    widest = float(spans.max()) or LARGEST_BYTE
    for unit in widest / LARGEST_BYTE * 0.5 ** np.arange(HALVINGS, -1, -1):
        # A hair less, or a span of exactly 255 steps would ask for a second byte.
        n_bytes = np.maximum(1, np.ceil(spans / (LARGEST_BYTE * unit) - 1e-9)).astype(np.int64)
        if n_bytes.sum() <= BYTES_PER_FEATURE * size.size:
            break
    return Windows(low, size / unit, n_bytes, float(unit))


def _laid_out(used: Int64[np.ndarray, " D"], weight: Float64[np.ndarray, " all"], windows: Windows) -> Code:
    """Bytes in order: features that add to the cost, padding, features that subtract, padding."""
    place = np.repeat(np.arange(used.size), windows.n_bytes)
    nth = np.arange(place.size) - np.repeat(np.cumsum(windows.n_bytes) - windows.n_bytes, windows.n_bytes)
    signs = weight[used][place]
    adding, taking = _padded(np.flatnonzero(signs > 0)), _padded(np.flatnonzero(signs < 0))
    chosen = np.concatenate([adding, taking])
    last = nth == windows.n_bytes[place] - 1
    return Code(
        order=np.where(chosen < 0, -1, np.append(used[place], -1)[chosen]),
        low=np.append(windows.low[place] + LARGEST_BYTE * nth / windows.gain[place], 0.0)[chosen],
        gain=np.append(windows.gain[place], 0.0)[chosen],
        least=np.append(np.where(nth == 0, -np.inf, 0.0), 0.0)[chosen],
        most=np.append(np.where(last, np.inf, LARGEST_BYTE), 0.0)[chosen],
        groups_add=adding.size // GROUP,
        unit=windows.unit,
    )


def _padded(places: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " padded"]:
    return np.pad(places, (0, -places.size % GROUP), constant_values=-1).astype(np.int64)
