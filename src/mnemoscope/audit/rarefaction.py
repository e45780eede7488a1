"""Rarefaction: how many distinct train clips a number of queries reaches, so that sets of unequal size compare."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.richness import Z95, estimate_ratio
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import ClipIndex, Estimate, Flags, MatchedRecall, RarefactionCurve

CHOICES = 50


def curve_steps(n_queries: int, *, count: int = 40) -> list[int]:
    """Up to ``count`` numbers of queries from 1 to ``n_queries``, evenly spaced on a logarithmic axis."""
    return sorted({round(step) for step in np.geomspace(1, n_queries, count)})


def rarefy(hits: np.ndarray, n: Sequence[int], *, n_queries: int | None = None) -> RarefactionCurve:
    """Expected number of distinct train clips among n queries drawn from all, without replacement.

    Args:
        hits: how often each train clip was the nearest of a gated query, (M,), clips without a hit included.
        n: numbers of queries, each from 0 to ``n_queries``.
        n_queries: all queries, gated or not (an ungated one reaches nothing); None if all are gated.

    Returns:
        The curve with a 95 % band for its expectation over further sets of ``n_queries`` queries.

    Raises:
        TooFewSamples: without queries, or if n exceeds them.
        Mismatch: if there are more hits than queries.

    Source: Hurlbert 1971. The band is ours: the exact variance of this U-statistic but for terms of order 1/n, at
    hit probabilities estimated as in Chao et al. 2014 with the gallery's size known, on a logarithmic axis. The
    variance of Colwell et al. 2012 takes the probabilities themselves for random: on a gallery that stays, its band is
    too wide by 1.2 to 15 times.
    """
    all_queries = int(hits.sum()) if n_queries is None else n_queries
    _check(hits, n, all_queries)
    classes = _Classes.of(hits, all_queries)
    points = [classes.estimate(int(step)) for step in n]
    return RarefactionCurve(
        n=[int(step) for step in n],
        expected=[point.value for point in points],
        low=[point.low for point in points],
        high=[point.high for point in points],
    )


def matched_recall(
    *,
    nearest_synthetic: ClipIndex,
    gated_synthetic: Flags,
    nearest_holdout: ClipIndex,
    gated_holdout: Flags,
    patient_holdout: np.ndarray,
    n_gallery: int,
    rng: np.random.Generator,
    n: int | None = None,
) -> MatchedRecall:
    """Distinct train clips reached by equally many synthetic and holdout queries, and their ratio.

    A patient's clips point at the same train clips, which synthetic clips have no reason to do; so one clip of each
    holdout patient counts, and the result is the mean over ``CHOICES`` such choices.

    Args:
        nearest_synthetic: number of the nearest train clip of each synthetic clip, (N,).
        gated_synthetic: whether it counts, (N,).
        nearest_holdout: the same of each holdout clip, (H,).
        gated_holdout: (H,).
        patient_holdout: patient of each holdout clip, any labels, (H,).
        n_gallery: train clips M.
        rng: chooses a clip of each holdout patient; unused where each has one.
        n: queries to compare at; by default the smaller of N and the number of holdout patients.

    Raises:
        TooFewSamples: without synthetic clips, with fewer than two gated holdout clips, or if n exceeds either set.

    Source: Hurlbert 1971 for the expectations; Donner and Zou 2012 for the ratio.
    """
    if gated_holdout.sum() < 2:
        raise TooFewSamples(
            f"matched recall needs at least two holdout clips that pass the gate, found {int(gated_holdout.sum())}; "
            f"add holdout clips or lower the gate (--gate-percentile)"
        )
    matched = min(len(nearest_synthetic), len(np.unique(patient_holdout))) if n is None else n
    hits = np.bincount(nearest_synthetic[gated_synthetic], minlength=n_gallery)
    curves = (
        rarefy(hits, [matched], n_queries=len(nearest_synthetic)),
        one_per_patient(
            nearest_holdout, gated_holdout, patient=patient_holdout, n_gallery=n_gallery, rng=rng, n=[matched]
        ),
    )
    synthetic, holdout = (Estimate(curve.expected[0], curve.low[0], curve.high[0]) for curve in curves)
    return MatchedRecall(matched, synthetic, holdout, estimate_ratio(synthetic, holdout))


def one_per_patient(
    nearest: ClipIndex,
    gated: Flags,
    *,
    patient: np.ndarray,
    n_gallery: int,
    rng: np.random.Generator,
    n: Sequence[int] | None = None,
) -> RarefactionCurve:
    """:func:`rarefy` for real queries, of which one clip of each patient counts; the mean over ``CHOICES`` choices.

    Args:
        nearest: number of the nearest train clip of each query, (H,).
        gated: whether it counts, (H,).
        patient: patient of each query, any labels, (H,).
        n_gallery: train clips M.
        rng: chooses a clip of each patient; unused where each has one.
        n: numbers of queries; by default :func:`curve_steps` up to the number of patients.

    Raises:
        TooFewSamples: without queries, or if n exceeds the number of patients.
    """
    choices = _one_clip_per_patient(patient, rng)
    steps = curve_steps(choices.shape[1]) if n is None else list(n)
    curves = [
        rarefy(np.bincount(nearest[rows][gated[rows]], minlength=n_gallery), steps, n_queries=len(rows))
        for rows in choices
    ]
    expected, low, high = (
        np.mean(parts, axis=0).tolist() for parts in zip(*((c.expected, c.low, c.high) for c in curves), strict=True)
    )
    return RarefactionCurve(steps, expected, low, high)


@dataclass(frozen=True)
class _Classes:
    """Train clips by number of hits.

    Attributes:
        hits: distinct numbers of hits, zero first, (K,).
        clips: train clips with that number, (K,); of those without a hit, all of the gallery.
        probability: estimated chance that a query hits one given clip of the class, (K,).
        n_queries: N.
    """

    hits: np.ndarray
    clips: np.ndarray
    probability: np.ndarray
    n_queries: int

    @classmethod
    def of(cls, hits: np.ndarray, n_queries: int) -> "_Classes":
        number, clips = np.unique(np.append(hits, 0), return_counts=True)
        clips[0] -= 1
        return cls(number, clips, _probabilities(number, clips) * (hits.sum() / n_queries), n_queries)

    def estimate(self, n: int) -> Estimate:
        expected = float(self.clips @ self._reached(n))
        # Neither can more than n clips be reached by n queries nor more than there are.
        most = float(min(n, self.clips.sum()))
        if expected == 0:
            return Estimate(0.0, 0.0, min(most, n * wilson(0, self.n_queries).high))
        spread = float(np.exp(Z95 * np.sqrt(self._variance(n)) / expected))
        return Estimate(expected, expected / spread, max(expected, min(most, expected * spread)))

    def _reached(self, n: int) -> np.ndarray:
        """Chance that n of the N queries reach a clip of each class, 1 − C(N − h, n) / C(N, n), (K,)."""
        # The quotient is ∏_{k<h} (N − n − k)/(N − k); as a difference of log-gammas it would lose half its digits.
        left_out = self.n_queries - n
        k = np.arange(min(self.hits[-1], left_out))
        log_missed = np.append(0.0, np.cumsum(np.log1p(-n / (self.n_queries - k))))
        return np.where(self.hits <= left_out, -np.expm1(log_missed[np.minimum(self.hits, len(k))]), 1.0)

    def _variance(self, n: int) -> float:
        """Of the rarefied number over sets of N queries: two choices of n share c of them, c being hypergeometric.

        Var = Σᵢ (E[qᵢ^(2n − c)] − qᵢ^(2n)) − E[c] Σ_{i≠j} pᵢ qᵢ^(n − 1) pⱼ qⱼ^(n − 1) with q = 1 − p.
        """
        total, p = self.n_queries, self.probability
        centre, sd = n**2 / total, n * (total - n) / (total * np.sqrt(max(total - 1, 1)))
        # Beyond ten deviations a hypergeometric number has no mass that float64 would notice.
        reach = 10 * (sd + 1)
        c = np.arange(max(0, 2 * n - total, int(centre - reach)), min(n, int(centre + reach)) + 1)
        alone = _missed(p[:, None], 2 * n - c) @ stats.hypergeom.pmf(c, total, n, n) - _missed(p, 2 * n)
        once = p * _missed(p, max(n - 1, 0))
        together = centre * ((self.clips @ once) ** 2 - self.clips @ once**2)
        return max(0.0, float(self.clips @ alone - together))


def _missed(probability: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    return np.exp(special.xlog1py(n, -probability))


def _probabilities(number: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Chance of each class's clips among the hits: those hit once give part of theirs to the clips never hit."""
    total = number @ clips
    plain = number / max(total, 1)
    unseen = clips[number == 1].sum() / total if total and clips[0] else 0.0
    if unseen == 0:
        return plain
    yielding = plain * (1 - plain) ** total
    # Where all hits are single, all of their chance goes to the clips never hit.
    seen = plain - yielding * (unseen / (clips @ yielding)) if unseen < 1 else np.zeros(len(number))
    return np.where(number == 0, unseen / clips[0], seen)


def _one_clip_per_patient(patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choices of one row for each patient, (``CHOICES``, P); one choice where there is no other."""
    names, code = np.unique(patient, return_inverse=True)
    if len(names) == len(patient):
        return np.arange(len(patient))[None]
    order = (rng.permutation(len(patient)) for _ in range(CHOICES))
    return np.stack([rows[np.unique(code[rows], return_index=True)[1]] for rows in order])


def _check(hits: np.ndarray, n: Sequence[int], n_queries: int) -> None:
    if n_queries < 1:
        raise TooFewSamples(f"rarefaction needs at least one query, got {n_queries}; add clips (n_queries=)")
    if len(n) and not 0 <= min(n) <= max(n) <= n_queries:
        raise TooFewSamples(f"rarefaction to {max(n)} needs as many queries, got {n_queries}; lower n (n=)")
    if hits.sum() > n_queries:
        raise Mismatch(f"expected at most one hit per query, found {hits.sum()} of {n_queries} (n_queries=)")
    if len(hits) and hits.min() < 0:
        raise DegenerateValues(f"hits are counts, found {hits.min()}; pass how often each clip was hit (hits=)")
