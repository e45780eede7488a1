"""Richness: how many train clips a generator can reach, judged from those that it did reach."""

import numpy as np
from scipy import optimize, special

from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.core.types import Estimate

Z95 = float(special.ndtri(0.975))


def chao1(hits: np.ndarray) -> Estimate:
    """Number of train clips that endless further queries would reach: a lower bound, the tighter the fewer the hubs.

    Args:
        hits: per train clip, (M,). M itself is not used: a value above M says that hits are spread thin.

    Returns:
        D + f1 (f1 − 1) / (2 (f2 + 1)) with D clips hit, f1 of them once and f2 twice, and its log-normal interval,
        which starts at D or above.

    Raises:
        TooFewSamples: without hits.

    Source: Chao 1984 in the bias-corrected form; log-normal interval of Chao 1987, with the
    variances of EstimateS (Colwell 2013, appendix B).
    """
    total, distinct, f1, f2 = _frequencies(hits)
    unseen = f1 * (f1 - 1) / (2 * (f2 + 1))
    if unseen == 0:
        return _nothing_unseen(total, distinct)
    share = f1 / (f2 + 1)
    variance = unseen + share**2 * (2 * f1 - 1) ** 2 / (4 * f1) + share**2 * f2 * ((f1 - 1) / (f2 + 1)) ** 2 / 4
    if f2 == 0:
        variance -= f1**4 / (4 * (distinct + unseen))
    spread = float(np.exp(Z95 * np.sqrt(np.log1p(variance / unseen**2))))
    return Estimate(distinct + unseen, distinct + unseen / spread, distinct + unseen * spread)


def good_turing_coverage(hits: np.ndarray) -> Estimate:
    """Share of further queries whose nearest train clip has been hit already, 1 − f1/n.

    Args:
        hits: per train clip, (M,).

    Returns:
        The share; its interval joins Wilson's with Esty's term 2 f2/n², so that it has a width where all or none of
        the hits are single.

    Raises:
        TooFewSamples: without hits.

    Source: Good 1953; Esty 1983.
    """
    total, _, f1, f2 = _frequencies(hits)
    share, z2 = 1 - f1 / total, Z95**2 / total
    centre = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    twice = Z95 * np.sqrt(2 * f2) / total
    low = share - np.hypot(share - (centre - half), twice)
    high = share + np.hypot(centre + half - share, twice)
    return Estimate(share, max(0.0, float(low)), min(1.0, float(high)))


def image_retrieval_score(distinct: int, n_queries: int, n_gallery: int) -> Estimate:
    """Share s/M of the gallery that, if drawn from evenly, would give as many distinct clips.

    Args:
        distinct: train clips hit k, 1 to ``n_queries``.
        n_queries: queries n that hit.
        n_gallery: train clips M.

    Returns:
        s/M with k = s (1 − (1 − 1/s)^n); the interval holds all s whose expectation lies within 1.96 standard
        deviations of k. Where k is at or above what the whole gallery gives, there is no such s within the gallery:
        the value is 1; where that holds for the bound, the data do not bound s, and the bound is 1.

    Raises:
        TooFewSamples: if nothing was hit.

    Source: Dufour et al. 2024, Image Retrieval Score.
    """
    if distinct < 1:
        raise TooFewSamples(f"expected at least one train clip hit, found {distinct}; add queries or lower the gate")
    if distinct > min(n_queries, n_gallery):
        raise DegenerateValues(
            f"{n_queries} queries over {n_gallery} train clips cannot hit {distinct} distinct ones; "
            f"count distinct clips from the same queries (distinct=)"
        )

    def share(deviations: float) -> float:
        def excess(s: float) -> float:
            sd = occupancy_sd(s, n_queries) if deviations else 0.0
            return occupancy_expectation(s, n_queries) + deviations * sd - distinct

        if excess(n_gallery) <= 0:
            return 1.0
        return (1.0 if excess(1.0) >= 0 else float(optimize.brentq(excess, 1.0, n_gallery, xtol=1e-9))) / n_gallery

    return Estimate(share(0.0), share(Z95), share(-Z95))


def irs_adjusted(irs_synthetic: Estimate, irs_holdout: Estimate) -> Estimate:
    """Image retrieval score of the synthetic clips as a multiple of the innocents'; 1 for a perfect sampler.

    Args:
        irs_synthetic: of synthetic queries.
        irs_holdout: of holdout queries over the same gallery; hubs lower both alike.
    """
    return estimate_ratio(irs_synthetic, irs_holdout)


def estimate_ratio(first: Estimate, second: Estimate) -> Estimate:
    """First estimate over the second, both ≥ 0 and independent of each other, with the interval from both of theirs.

    Raises:
        DegenerateValues: if the second's interval reaches 0.

    Source: Donner and Zou 2012, MOVER-R, equations 9 and 10, with the roots written so that none divides by zero.
    """
    if second.low <= 0:
        raise DegenerateValues(f"expected a divisor whose interval lies above 0, found {second}; add holdout clips")
    product = first.value * second.value
    lower, upper = (bound * (2 * first.value - bound) for bound in (first.low, first.high))
    below, above = (bound * (2 * second.value - bound) for bound in (second.low, second.high))
    low = lower / (product + np.sqrt(product**2 - lower * above)) if lower > 0 else 0.0
    high = (product + np.sqrt(product**2 - upper * below)) / below
    return Estimate(first.value / second.value, float(low), float(high))


def occupancy_expectation(n_cells: float, n_draws: int) -> float:
    """Expected number of distinct cells s (1 − (1 − 1/s)^n) among n even draws from s ≥ 1 cells; s may be broken."""
    return float(-n_cells * np.expm1(special.xlog1py(n_draws, -1 / n_cells)))


def occupancy_sd(n_cells: float, n_draws: int) -> float:
    """Standard deviation of that number; below two cells it is 0.

    Source: the variance s q (1 − q) + s (s − 1) ((1 − 2/s)^n − q²) with q = (1 − 1/s)^n, without cancellation.
    """
    if n_cells < 2:
        return 0.0
    empty = np.exp(special.xlog1py(n_draws, -1 / n_cells))
    pairs = np.expm1(special.xlog1py(n_draws, -1 / (n_cells - 1) ** 2))
    variance = n_cells * empty * (1 - empty) + n_cells * (n_cells - 1) * empty**2 * pairs
    return float(np.sqrt(max(0.0, variance)))


def _nothing_unseen(total: int, distinct: int) -> Estimate:
    # A clip is missed with chance exp(−hits per clip); Chao 1987's interval for this case, never below what was seen.
    missed = float(np.exp(-total / distinct))
    centre, half = distinct / (1 - missed), Z95 * np.sqrt(distinct * missed) / (1 - missed)
    return Estimate(float(distinct), max(float(distinct), float(centre - half)), float(centre + half))


def _frequencies(hits: np.ndarray) -> tuple[int, int, int, int]:
    """Sum of the hits, clips hit, clips hit once, clips hit twice."""
    total = int(hits.sum())
    if total == 0:
        raise TooFewSamples("expected hits on train clips, found none; add queries or lower the gate")
    return total, int((hits > 0).sum()), int((hits == 1).sum()), int((hits == 2).sum())
