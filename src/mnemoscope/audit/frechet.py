"""Fréchet distance: how far apart two sets lie, each taken for a Gaussian."""

import numpy as np

from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Features


def frechet_distance(a: Features, b: Features) -> float:
    """Squared Fréchet (Wasserstein-2) distance of the Gaussians with the means and covariances of two sets.

    It shrinks as the sets grow: sets are to be of one size, and a value is to be read beside the same of two real sets.

    Args:
        a: features of one set, (N, D), N ≥ 2.
        b: features of the other, (M, D), M ≥ 2.

    Returns:
        ‖μ_a − μ_b‖² + tr(C_a + C_b − 2 (C_a C_b)^½), at least 0; 0 for the same set.

    Raises:
        Mismatch: for different D.
        TooFewSamples: with fewer than two rows.
        DegenerateValues: for NaN or infinite features.

    Source: Dowson & Landau 1982; as a measure of generators Heusel et al. 2017 (FID).
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    _check(a, b)
    apart = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    root = _root(cov_a)
    # (C_a C_b)^½ has the eigenvalues of the symmetric (C_a^½ C_b C_a^½)^½.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    return float(max(apart @ apart + np.trace(cov_a) + np.trace(cov_b) - 2.0 * shared, 0.0))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise Mismatch(f"expected two sets of rows with as many features, got shapes {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise TooFewSamples(f"a covariance needs at least 2 rows in each set, got {len(a)} and {len(b)}; add samples")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DegenerateValues("expected finite features, found NaN or infinite ones; check the model that made them")
