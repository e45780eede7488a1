"""Oracle of the search: every pair in float64 NumPy, sorted by similarity and then by index, nothing clever."""

import numpy as np

from mnemoscope.search import L1, L2, Correlation, Cosine, Head, WeightedL1


def similarities(query: np.ndarray, gallery: np.ndarray, head: Head) -> np.ndarray:
    """Similarity of every query to every gallery row, shape (N, M), float64."""
    q, g = query.astype(np.float64), gallery.astype(np.float64)
    match head:
        case WeightedL1():
            return head.bias + _differences(q, g) @ head.weight
        case L1():
            return -_differences(q, g).sum(axis=2)
        case L2():
            return -np.sqrt((_differences(q, g) ** 2).sum(axis=2))
        case Cosine():
            return _cosines(q, g)
        case Correlation():
            return _cosines(q - q.mean(axis=1, keepdims=True), g - g.mean(axis=1, keepdims=True))
    raise TypeError(head)


def nearest(query: np.ndarray, gallery: np.ndarray, head: Head, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity (N, k) and index (N, k), best first, the smaller index first where they tie."""
    values = similarities(query, gallery, head)
    index = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, index, axis=1), index


def _differences(q: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.abs(q[:, None, :] - g[None, :, :])


def _cosines(q: np.ndarray, g: np.ndarray) -> np.ndarray:
    return (q @ g.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(g, axis=1)[None, :]
