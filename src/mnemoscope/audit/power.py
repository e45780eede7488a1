"""Power: which share of planted copies the audit flags, and the smallest leak it would notice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.threshold import privacy_threshold
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import Estimate, Scores

FPR_LEVELS = (0.05, 0.01, 0.001)

_ROUNDING = 1e-12  # of a chance that is summed up; one that equals the power asked for counts


def true_positive_rates(
    p_max_planted: Scores, p_max_holdout: Scores, *, tau: float, fpr_levels: Sequence[float] = FPR_LEVELS
) -> dict[str, Any]:
    """Share of planted copies above tau, and above the thresholds of fixed false-positive rates.

    Args:
        p_max_planted: best logit of each planted copy over the gallery, one copy per patient, (N,); copies of one
            patient would succeed and fail together, and Wilson's intervals be too narrow.
        p_max_holdout: the same of each innocent, (M,).
        tau: a copy is found if p_max > tau.
        fpr_levels: shares of innocents that may be flagged.

    Returns:
        ``{"tpr": Estimate, "tpr_at_fpr": {"0.05": Estimate or None, …}}``. A level's threshold is the lowest holdout
        score that at most this share of the holdout exceeds; None where not even one innocent may exceed it.

    Raises:
        TooFewSamples: without planted copies or without innocents.
    """
    if len(p_max_holdout) == 0:
        raise TooFewSamples("true-positive rates need holdout clips, got 0; add holdout clips")
    at_level = {f"{fpr:g}": _tpr_at_fpr(p_max_planted, p_max_holdout, fpr) for fpr in fpr_levels}
    return {"tpr": _share_above(p_max_planted, tau), "tpr_at_fpr": at_level}


def _tpr_at_fpr(p_max_planted: Scores, p_max_holdout: Scores, fpr: float) -> Estimate | None:
    may_exceed = int(len(p_max_holdout) * fpr + 1e-9)
    if may_exceed < 1:
        return None
    return _share_above(p_max_planted, float(np.sort(p_max_holdout)[::-1][may_exceed]))


def _share_above(p_max: Scores, threshold: float) -> Estimate:
    return wilson(int((p_max > threshold).sum()), len(p_max))


def minimum_detectable_share(
    *, n_synthetic: int, n_holdout: int, percentile: float, tpr: float, alpha: float = 0.01, power: float = 0.8
) -> float | None:
    """Smallest share of copies in a synthetic set at which the count of flags gives the leak away.

    Copies are flagged with rate ``tpr``, the others as innocents are. The leak is noticed where
    :func:`~mnemoscope.audit.privacy.flag_count_p` is at most ``alpha``. The number of flags is binomial for copies and
    beta-binomial for innocents, whose rate depends on the holdout that sets tau; their sum is exact.

    Args:
        n_synthetic: clips in the set.
        n_holdout: innocents from which tau is taken.
        percentile: see :func:`~mnemoscope.audit.threshold.privacy_threshold`.
        tpr: share of copies above tau, 0–1.
        alpha: level of the test.
        power: chance to notice, 0–1, more than ``alpha``.

    Returns:
        The share (0–1), a whole number of copies; None if not even a set of copies only would be noticed.

    Raises:
        TooFewSamples: with fewer innocents than one flagged clip needs.
    """
    ranks = np.arange(n_holdout, dtype=np.float64)
    tau = privacy_threshold(ranks, percentile=percentile)
    above = int((ranks > tau).sum())
    needed = int(np.argmax(_tail(_tables(above + 1.0, n_holdout - above, n_synthetic), n_synthetic) <= alpha))
    # tau lies between two innocents; as a rank, it gives the rate above it this distribution (exact in its mean).
    innocents = _tables(n_holdout - tau, tau + 1.0, n_synthetic)

    def noticed(copies: int) -> bool:
        return _reach(needed, _binomial(copies, tpr), _tail(innocents, n_synthetic - copies)) >= power - _ROUNDING

    if not noticed(n_synthetic):
        return None
    too_few, enough = 0, n_synthetic
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if noticed(middle) else (middle, enough)
    return enough / n_synthetic


def _reach(needed: int, of_copies: np.ndarray, tail: np.ndarray) -> float:
    """P(copies + innocents ≥ needed), from the probabilities of copies' counts and the tail of innocents'."""
    still_needed = np.clip(needed - np.arange(len(of_copies)), 0, len(tail) - 1)
    return float(of_copies @ tail[still_needed])


def _tables(alpha: float, beta: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The gamma functions in beta-binomials of Beta(alpha, beta) and up to ``most`` trials, of hits and of misses."""
    counts = np.arange(most + 1.0)
    hit, miss = (special.gammaln(counts + shape) - special.gammaln(counts + 1) for shape in (alpha, beta))
    return hit, miss


def _tail(tables: tuple[np.ndarray, np.ndarray], trials: int) -> np.ndarray:
    """P(beta-binomial ≥ k) for k = 0 … trials + 1, the last 0; (trials + 2,)."""
    hit, miss = tables
    logs = hit[: trials + 1] + miss[trials::-1]
    tail = np.append(np.cumsum(np.exp(logs - logs.max())[::-1])[::-1], 0.0)
    return tail / tail[0]


def _binomial(trials: int, rate: float) -> np.ndarray:
    """P(count = k) for k = 0 … trials, (trials + 1,)."""
    counts = np.arange(trials + 1.0)
    ways = special.gammaln(trials + 1) - special.gammaln(counts + 1) - special.gammaln(counts + 1)[::-1]
    mass: np.ndarray = np.exp(ways + special.xlogy(counts, rate) + special.xlog1py(counts[::-1], -rate))
    return mass / mass.sum()
