"""Manifold: precision, recall, density and coverage from balls around the k-th nearest neighbour."""

from collections.abc import Iterator

import numpy as np

from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Features, Manifold

PAIRS_AT_ONCE = 4_000_000


def manifold(
    features_real: Features, features_synthetic: Features, *, k: int = 5, weight: np.ndarray | None = None
) -> Manifold:
    """How far two sets of features fill the same space.

    A ball reaches from a clip to its k-th nearest of the own set; inside is strictly nearer than that. Distances are
    Euclidean in float64; never more than ``PAIRS_AT_ONCE`` of them are held.

    Args:
        features_real: (N, D).
        features_synthetic: (M, D).
        k: neighbours, 1 or more.
        weight: what each feature is multiplied by first, ≥ 0, (D,); None for 1.

    Returns:
        ``precision``: share of synthetic clips in the ball of any real one; ``recall``: share of real clips in the
        ball of any synthetic one; ``density``: mean number of real balls around a synthetic clip, over k;
        ``coverage``: share of real balls that hold a synthetic clip.

    Raises:
        TooFewSamples: if either set has no more than k clips.
        Mismatch: if numbers of features differ.
        DegenerateValues: on NaN, infinity, or a negative weight.

    Source: Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equations 3 and 4.
    """
    _check(features_real, features_synthetic, k, weight)
    scale = 1.0 if weight is None else weight.astype(np.float64)
    real, synthetic = (features.astype(np.float64) * scale for features in (features_real, features_synthetic))
    # Products cancel least about the middle; differences, which decide close calls, need no centre.
    middle = real.mean(axis=0)
    radius_real, radius_synthetic = _squared_radii(real, middle, k), _squared_radii(synthetic, middle, k)
    balls_around = np.zeros(len(synthetic), dtype=np.int64)
    recalled, covered = 0, 0
    for rows in _blocks(len(real), len(synthetic)):
        squared, doubt = _squared(real[rows], synthetic, middle)
        in_real = _below(squared, doubt, radius_real[rows, None], real[rows], synthetic)
        balls_around += in_real.sum(axis=0)
        covered += int(in_real.any(axis=1).sum())
        recalled += int(_below(squared, doubt, radius_synthetic, real[rows], synthetic).any(axis=1).sum())
    return Manifold(
        k=k,
        n_real=len(real),
        n_synthetic=len(synthetic),
        precision=float((balls_around > 0).mean()),
        recall=recalled / len(real),
        density=float(balls_around.mean() / k),
        coverage=covered / len(real),
    )


def coverage_expectation(n_real: int, n_synthetic: int, *, k: int = 5) -> float:
    """Coverage that two sets of one distribution have on average, 1 − ∏_{i=1..k} (N − i)/(M + N − i).

    Source: Naeem et al. 2020, lemma 2.
    """
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n_real - i) / (n_synthetic + n_real - i)))


def _squared_radii(x: np.ndarray, middle: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, (n,)."""
    radii = np.empty(len(x))
    for rows in _blocks(len(x), len(x)):
        squared, doubt = _squared(x[rows], x, middle)
        # The row itself is the nearest, so the k-th other has place k; whatever may lie below it is measured exactly.
        at_most = np.partition(squared + doubt, k, axis=1)[:, k]
        row, column = np.nonzero(squared - doubt <= at_most[:, None])
        distance = _exact(x[rows], x, row, column)
        order = np.lexsort((distance, row))
        radii[rows] = distance[order][np.searchsorted(row[order], np.arange(len(squared))) + k]
    return radii


def _squared(a: np.ndarray, b: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances |a|² + |b|² − 2ab, (n, m), and what rounding may have done to them, (n, m)."""
    a, b = a - middle, b - middle
    size = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)
    squared = a @ (-2.0 * b.T)
    squared += size
    size *= 8 * (a.shape[1] + 8) * np.finfo(np.float64).eps
    return squared, size


def _below(squared: np.ndarray, doubt: np.ndarray, bound: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which squared distances lie below the bound; those too close to it for their rounding are measured exactly."""
    below = squared < bound - doubt
    row, column = np.nonzero(below != (squared < bound + doubt))
    below[row, column] = _exact(a, b, row, column) < np.broadcast_to(bound, squared.shape)[row, column]
    return below


def _exact(a: np.ndarray, b: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Squared distances of pairs of rows by their differences, (n,)."""
    squared = np.empty(len(row))
    for part in _blocks(len(row), a.shape[1]):
        squared[part] = ((a[row[part]] - b[column[part]]) ** 2).sum(axis=1)
    return squared


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    step = max(1, PAIRS_AT_ONCE // n_columns)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def _check(real: Features, synthetic: Features, k: int, weight: np.ndarray | None) -> None:
    if k < 1 or min(len(real), len(synthetic)) <= k:
        raise TooFewSamples(
            f"balls to the k-th neighbour need k ≥ 1 and more than k clips in each set, found k={k}, {len(real)} real "
            f"and {len(synthetic)} synthetic clips; add clips (--real, --synthetic) or change k (k=)"
        )
    if real.shape[1] != synthetic.shape[1] or (weight is not None and weight.shape != (real.shape[1],)):
        raise Mismatch(
            f"expected one number of features, found real {real.shape[1]}, synthetic {synthetic.shape[1]}, weight "
            f"{None if weight is None else weight.shape}; use features of one re-identification model (--reid)"
        )
    if not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        raise DegenerateValues("features must be finite, found NaN or infinity; check the clips (mnemoscope check)")
    if weight is not None and not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise DegenerateValues("weights must be finite and at least 0; pass their magnitudes (weight=)")
