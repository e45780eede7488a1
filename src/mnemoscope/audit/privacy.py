"""Privacy: which synthetic clips are too similar to a train clip, and whether there are more than chance brings."""

import numpy as np
from scipy import special, stats

from mnemoscope.audit.intervals import share_difference, wilson
from mnemoscope.audit.threshold import privacy_threshold
from mnemoscope.core.types import Flags, Privacy, Scores


def privacy(
    p_max_synthetic: Scores, p_max_holdout: Scores, *, percentile: float = 95.0, fdr_rate: float = 0.1
) -> Privacy:
    """The privacy figures of a synthetic set.

    Args:
        p_max_synthetic: best logit of each synthetic clip over the gallery, (N,).
        p_max_holdout: the same of each holdout clip, (M,).
        percentile: see :func:`~mnemoscope.audit.threshold.privacy_threshold`.
        fdr_rate: expected share of innocents in the Benjamini–Hochberg list.

    Returns:
        ``excess_rate`` is the flag rate minus the rate at which innocents are flagged; ``p_value`` answers how often
        a set of innocents would have as many flags or more.
    """
    tau = privacy_threshold(p_max_holdout, percentile=percentile)
    flagged = int((p_max_synthetic > tau).sum())
    innocents_above = int((p_max_holdout > tau).sum())
    rate = wilson(flagged, len(p_max_synthetic))
    discovered = benjamini_hochberg(conformal_p(p_max_synthetic, p_max_holdout), rate=fdr_rate)
    return Privacy(
        percentile=percentile,
        tau=tau,
        flagged=flagged,
        flag_rate=rate,
        excess_rate=share_difference(rate, wilson(innocents_above, len(p_max_holdout))),
        p_value=flag_count_p(flagged, len(p_max_synthetic), innocents_above, len(p_max_holdout)),
        fdr_rate=fdr_rate,
        fdr_flagged=int(discovered.sum()),
    )


def conformal_p(p_max: Scores, p_max_holdout: Scores) -> Scores:
    """Per clip: how often an innocent is as similar or more, (1 + #{holdout ≥ score}) / (1 + M); valid at any M.

    Source: Vovk et al. 2005; Bates et al. 2023.
    """
    ordered = np.sort(p_max_holdout)
    at_least = len(ordered) - np.searchsorted(ordered, p_max, side="left")
    return (1.0 + at_least) / (1.0 + len(ordered))


def benjamini_hochberg(p: Scores, *, rate: float) -> Flags:
    """Which hypotheses are rejected at a false-discovery rate: all with p ≤ the largest p₍ₖ₎ ≤ rate·k/N.

    Source: Benjamini and Hochberg 1995; valid for conformal p-values by Bates et al. 2023.
    """
    ordered = np.sort(p)
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    if len(passing) == 0:
        return np.zeros(len(p), dtype=bool)
    return p <= ordered[passing[-1]]


def flag_count_p(flagged: int, n_synthetic: int, innocents_above: int, n_holdout: int) -> float:
    """Chance that N innocents bring at least this many flags, tau being taken from M other innocents.

    With a of M innocents above tau, the rate at which a new innocent exceeds the highest unflagged one is
    Beta(a + 1, M − a), so the count is beta-binomial; this is slightly conservative, because tau lies above that clip.
    """
    if flagged == 0:
        return 1.0
    null = stats.betabinom(n_synthetic, innocents_above + 1, n_holdout - innocents_above)
    # The tail itself is summed: as one minus the rest, a rare count would come out as 0 or as rounding noise.
    return float(min(1.0, np.exp(special.logsumexp(null.logpmf(np.arange(flagged, n_synthetic + 1))))))
