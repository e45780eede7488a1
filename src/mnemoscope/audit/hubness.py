"""Hubness: some train clips are the nearest of far too many queries; how much so, and neighbours without it."""

import numpy as np

from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Features, Scores


def hit_skewness(hits: np.ndarray) -> float:
    """Skewness of the hits over train clips, E(h − μ)³ / σ³: about 0 without hubs, above 1 with strong ones.

    Args:
        hits: per train clip, (M,).

    Raises:
        DegenerateValues: if all clips have as many hits.

    Source: Radovanović et al. 2010, equation 1.
    """
    if len(hits) == 0 or hits.min() == hits.max():
        raise DegenerateValues("skewness needs hits that differ between train clips; add queries or lower the gate")
    deviation = hits - hits.mean(dtype=np.float64)
    return float((deviation**3).mean() / (deviation**2).mean() ** 1.5)


def crowding(similarity_to_others: np.ndarray) -> Scores:
    """How crowded the place of each gallery row is: mean similarity to its k nearest rows of other patients.

    Args:
        similarity_to_others: of each gallery row to those, (M, k).

    Raises:
        TooFewSamples: with k = 0.
        DegenerateValues: on NaN or infinity.

    Source: r in equation 2 of Conneau et al. 2018.
    """
    if similarity_to_others.shape[1] == 0:
        raise TooFewSamples("crowding needs a neighbour of another patient for each train clip; add train patients")
    if not np.isfinite(similarity_to_others).all():
        raise DegenerateValues("similarities must be finite, found NaN or infinity; check the train features")
    return similarity_to_others.mean(axis=1, dtype=np.float64)


def hub_corrected_offset(crowding: Scores) -> Scores:
    """What each gallery row is charged, so that the nearest of a query q is the g with the largest 2 s(q, g) − r_g.

    The query's own crowding is the same for every g and drops out of that comparison.

    Args:
        crowding: r, (M,).

    Returns:
        (r_g − min r) / 2, ≥ 0 and the smallest such charge, to be taken from the similarity, (M,).

    Source: cross-domain similarity local scaling, equation 3 of Conneau et al. 2018.
    """
    return (crowding - crowding.min(initial=np.inf)) / 2.0


def with_offset(
    query: Features, gallery: Features, weight: np.ndarray, offset: Scores
) -> tuple[Features, Features, np.ndarray]:
    """Features under which a weighted-L1 head charges each gallery row its offset, so any exact search still serves.

    One feature is appended: 0 in every query, the offset in the gallery, weight −1; since the offset is ≥ 0,
    −|0 − offset| is the charge itself.

    Args:
        query: (N, D).
        gallery: (M, D).
        weight: of the head, (D,).
        offset: ≥ 0, (M,).

    Returns:
        Query (N, D + 1), gallery (M, D + 1) and weight (D + 1,), each of the type it came in; the appended column is
        rounded to that type.

    Raises:
        Mismatch: if there is not one offset per gallery row.
        DegenerateValues: if an offset is negative or not finite.
    """
    if offset.shape != (len(gallery),):
        raise Mismatch(f"expected one offset per gallery row, found {offset.shape} for {len(gallery)} (offset=)")
    if not (np.isfinite(offset).all() and (offset >= 0).all()):
        raise DegenerateValues("offsets must be finite and at least 0; see hub_corrected_offset (offset=)")
    zero = np.zeros((len(query), 1), dtype=query.dtype)
    charge = offset[:, None].astype(gallery.dtype)
    return np.hstack([query, zero]), np.hstack([gallery, charge]), np.append(weight, np.array(-1, weight.dtype))
