"""Recall: which train clips the generator learned."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.core.types import ClipIndex, Flags, Scores


@dataclass(frozen=True)
class Hits:
    """How often each train clip was the nearest of a gated query.

    Attributes:
        all: hits per train clip, (M,).
        unflagged: hits by queries that were not flagged, (M,).
        flagged: flagged queries that point at the clip, gated or not, (M,).
    """

    all: np.ndarray
    unflagged: np.ndarray
    flagged: np.ndarray

    @property
    def learned(self) -> Flags:
        """Train clips that are the nearest of at least one gated query."""
        return self.all > 0

    @property
    def learned_and_flagged(self) -> Flags:
        """Train clips that were learned through flagged queries alone (the paper's "learned but memorised")."""
        return self.learned & (self.unflagged == 0)

    @property
    def leaked(self) -> Flags:
        """Train clips that a flagged query points at."""
        return self.flagged > 0

    @property
    def missed(self) -> Flags:
        """Neither learned nor leaked."""
        return ~(self.learned | self.leaked)


def count_hits(
    nearest: ClipIndex,
    p_max: Scores,
    *,
    n_gallery: int,
    tau: float,
    gate: float | None,
    like_real: Flags | None = None,
) -> Hits:
    """Hits per train clip.

    Args:
        nearest: number of the nearest train clip of each query, (N,).
        p_max: its logit, (N,).
        n_gallery: number of train clips M.
        tau: a query is flagged if p_max > tau.
        gate: a query counts if p_max ≥ gate; None counts all, as in the paper.
        like_real: queries that look like real clips, (N,); others do not count. None where nobody looked.
    """
    flagged = p_max > tau
    gated = gated_queries(p_max, gate, like_real)

    def per_clip(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(nearest[chosen], minlength=n_gallery)

    return Hits(per_clip(gated), per_clip(gated & ~flagged), per_clip(flagged))


def gated_queries(p_max: Scores, gate: float | None, like_real: Flags | None = None) -> Flags:
    """Which queries are as close to the gallery as innocents are, p_max ≥ gate, and look like real clips."""
    close = np.ones(len(p_max), dtype=bool) if gate is None else p_max >= gate
    return close if like_real is None else close & like_real


def most_hit(hits: np.ndarray, *, count: int) -> np.ndarray:
    """Numbers of the train clips with the most hits, most first, ties by number, clips without a hit left out."""
    order = np.argsort(-hits, kind="stable")[:count]
    return order[hits[order] > 0]
