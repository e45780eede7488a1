"""Intervals: Wilson for shares, Newcombe for differences of shares, and the bootstrap over patients."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import Estimate

BOOTSTRAP_ROUNDS = 1000


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson score interval; ``value`` is the plain share.

    Raises:
        TooFewSamples: without trials.

    Source: Wilson 1927.
    """
    if trials < 1:
        raise TooFewSamples(f"expected at least one trial for a share, got {trials}")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * float(np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)))
    # At 0 and at all trials the bound is the share itself; rounding must not put it beyond.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def share_difference(first: Estimate, second: Estimate) -> Estimate:
    """First share minus second, both with Wilson intervals and independent of each other.

    Source: Newcombe 1998, method 10.
    """
    value = first.value - second.value
    low = value - np.hypot(first.value - first.low, second.high - second.value)
    high = value + np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, float(low), float(high))


def patient_bootstrap(
    statistic: Callable[[np.ndarray], float],
    patients: np.ndarray,
    *,
    rng: np.random.Generator,
    rounds: int = BOOTSTRAP_ROUNDS,
    confidence: float = 0.95,
) -> Estimate:
    """Percentile interval of a weighted statistic under resampling of patients.

    Args:
        statistic: takes a weight per row (N,) and gives the number; weights are how often the row's patient was drawn.
        patients: patient of each row, any labels, (N,).
        rng: draws the patients.
        rounds: number of resamples.
        confidence: of the interval.
    """
    names, code = np.unique(patients, return_inverse=True)
    value = statistic(np.ones(len(patients)))
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)
    replicates = np.array([statistic(draw[code].astype(np.float64)) for draw in draws])
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(replicates, [tail, 100 - tail])
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))
