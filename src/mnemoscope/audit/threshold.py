"""Threshold: how similar an innocent clip may be before it is called too similar."""

import numpy as np
from scipy import stats

from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import Estimate, Scores


def privacy_threshold(p_max_holdout: Scores, *, percentile: float = 95.0) -> float:
    """Similarity above which a synthetic clip is flagged.

    Args:
        p_max_holdout: best logit of each holdout clip over the gallery, shape (N,).
        percentile: share of innocents that stay unflagged, in percent, in (0, 100).

    Returns:
        tau, in logits.

    Raises:
        TooFewSamples: with fewer innocents than one flagged clip needs.

    Source: Dombrowski et al. 2024, section 4.2 (after Dar et al. 2024).
    """
    require_innocents(p_max_holdout.size, percentile)
    return float(np.percentile(p_max_holdout.astype(np.float64), percentile))


def threshold_interval(p_max_holdout: Scores, *, percentile: float = 95.0, confidence: float = 0.95) -> Estimate:
    """tau with an interval for the percentile of all innocents, whatever the distribution of their scores.

    Args:
        p_max_holdout: best logit of each holdout clip over the gallery, shape (N,).
        percentile: see :func:`privacy_threshold`.
        confidence: of the interval, at least 0.5.

    Returns:
        ``value`` is tau; ``low`` and ``high`` are holdout scores. Where so few innocents have no score that is high
        (or low) enough, the bound is their extreme: the percentile lies beyond the highest of N scores with
        probability (percentile / 100)^N, which then exceeds (1 - confidence) / 2.

    Raises:
        TooFewSamples: with fewer innocents than one flagged clip needs.

    Source: #{scores ≤ quantile} ~ Binomial(N, percentile / 100); David and Nagaraja 2003, section 7.1.
    """
    tau = privacy_threshold(p_max_holdout, percentile=percentile)
    ordered = np.sort(p_max_holdout.astype(np.float64))
    tail = (1 - confidence) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], len(ordered), percentile / 100).astype(int)
    # Ranks count from 1: the low-th score and the one after the high-th.
    return Estimate(tau, float(ordered[max(low, 1) - 1]), float(ordered[min(high, len(ordered) - 1)]))


def require_innocents(n_holdout: int, percentile: float) -> None:
    """Refuses a percentile that so few holdout clips cannot resolve.

    Raises:
        TooFewSamples: naming both numbers and the remedy.
    """
    needed = int(np.ceil(100.0 / (100.0 - percentile) - 1e-9))
    if n_holdout < needed:
        raise TooFewSamples(
            f"a {percentile:g}th percentile needs at least {needed} holdout clips, got {n_holdout}; "
            f"add holdout clips or lower percentile (--percentile)"
        )


def recall_gate(p_max_holdout: Scores, *, percentile: float) -> float:
    """Similarity that a query must reach to count as having learned anything.

    A query that is farther from the gallery than nearly every innocent resembles nobody; its nearest neighbour means
    nothing (SCIENCE, fault 7).

    Args:
        p_max_holdout: best logit of each holdout clip over the gallery, shape (N,).
        percentile: share of innocents that would not count, in percent.
    """
    return float(np.percentile(p_max_holdout.astype(np.float64), percentile))
