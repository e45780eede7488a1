"""Exact nearest neighbours: one contract for every head, on the processor or any torch device."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from mnemoscope.core.errors import ConfigError, DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.search.blocks import ROWS_AT_ONCE, Blocking, blocks
from mnemoscope.search.heads import Head, PairScorer
from mnemoscope.search.kernels import Best
from mnemoscope.search.metrics import metric_of
from mnemoscope.search.processor import available_threads, cost_matrix, lowest_costs, pair_costs

# Shape and type are checked here and not by a type checker: the message must say what to do.
Rows = Float[np.ndarray, "..."]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest gallery rows of each query, nearest first.

    ``similarity`` (N, k) float32 falls along a row: higher is closer under every head, and distances come negated.
    ``index`` (N, k) int64 points into the gallery; of equal similarities the smaller index comes first.
    """

    similarity: Float32[np.ndarray, "N k"]
    index: Int64[np.ndarray, "N k"]


def nearest(
    query: Rows,
    gallery: Rows,
    head: Head,
    *,
    k: int = 1,
    blocking: Blocking | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Neighbours:
    """The k most similar gallery rows of each query, exactly.

    On the processor a closed-form head is screened with cheap bounds and decided in float64; on another device, and
    for a ``PairScorer``, every pair is computed. The result does not depend on blocks, threads or the order of queries,
    except that a ``PairScorer`` is only as reproducible as its own arithmetic at different batch sizes.

    Args:
        query: float32 features, shape (N, D); N may be 0.
        gallery: float32 features, shape (M, D), M ≥ k.
        head: what similarity means.
        k: neighbours of each query, at least 1.
        blocking: rows taken at once; bounds memory, changes no result.
        threads: threads on the processor, by default one for each core.
        device: ``"cpu"`` for the compiled search, else a torch device with float64 (``"cuda"``).

    Raises:
        Mismatch: if types, shapes or the head's size do not fit together.
        TooFewSamples: if the gallery is empty or smaller than k.
        DegenerateValues: on NaN or infinite features, and on rows for which the head is undefined.
        ConfigError: if ``k``, ``threads``, ``head`` or ``device`` is not usable.

    Source: Dombrowski et al. 2024, section 3.2, p_max; the published code takes one query at a time in float32.
    """
    query, gallery = _checked_pair(query, gallery)
    _check_neighbours(k, len(gallery), threads)
    sizes = blocking or Blocking()
    if device == "cpu" and not isinstance(head, PairScorer):
        return _nearest_on_processor(query, gallery, head, k, sizes, threads or available_threads())
    return _nearest_on_device(query, gallery, head, k, sizes, device)


def pair_scores(a: Rows, b: Rows, head: Head, *, device: str = "cpu") -> Float32[np.ndarray, " n"]:
    """Similarity of each row of ``a`` to the same row of ``b``, computed in float64.

    Args:
        a: float32 features, shape (n, D).
        b: float32 features, shape (n, D).
        head: what similarity means.
        device: where a ``PairScorer`` lives; all other heads are computed on the processor.

    Returns:
        Similarities, shape (n,), higher is closer.

    Raises:
        Mismatch: if types, shapes or the head's size do not fit together.
        DegenerateValues: on NaN or infinite features, and on rows for which the head is undefined.
    """
    a, b = _checked_pair(a, b)
    if len(a) != len(b):
        raise Mismatch(
            f"pair_scores needs as many rows on both sides, found {len(a)} and {len(b)}; pass pairs (a=, b=)"
        )
    if isinstance(head, PairScorer):
        from mnemoscope.search.tensors import scorer_pairs, torch_device

        return scorer_pairs(a, b, head, torch_device(device)).astype(np.float32)
    metric = metric_of(head, n_features=a.shape[1])
    return metric.similarity(pair_costs(a, b, metric)).astype(np.float32)


def matrix(query: Rows, gallery: Rows, head: Head, *, device: str = "cpu") -> Float32[np.ndarray, "N M"]:
    """Similarity of every query to every gallery row, for problems small enough to hold it.

    Args:
        query: float32 features, shape (N, D).
        gallery: float32 features, shape (M, D).
        head: what similarity means.
        device: where a ``PairScorer`` lives; all other heads are computed on the processor.

    Returns:
        Similarities, shape (N, M), higher is closer.

    Raises:
        Mismatch: if types, shapes or the head's size do not fit together.
        DegenerateValues: on NaN or infinite features, and on rows for which the head is undefined.
    """
    query, gallery = _checked_pair(query, gallery)
    if isinstance(head, PairScorer):
        from mnemoscope.search.tensors import scorer_matrix, torch_device

        return scorer_matrix(query, gallery, head, torch_device(device)).astype(np.float32)
    metric = metric_of(head, n_features=query.shape[1])
    return metric.similarity(cost_matrix(query, gallery, metric)).astype(np.float32)


def _nearest_on_processor(query: Rows, gallery: Rows, head: Head, k: int, sizes: Blocking, threads: int) -> Neighbours:
    metric = metric_of(head, n_features=query.shape[1])
    best = lowest_costs(query, gallery, metric, k=k, sizes=sizes, threads=threads)
    return _neighbours(best, metric.similarity)


def _nearest_on_device(query: Rows, gallery: Rows, head: Head, k: int, sizes: Blocking, device: str) -> Neighbours:
    import mnemoscope.search.tensors as tensors

    place = tensors.torch_device(device)
    similarity: Callable[[np.ndarray], np.ndarray] = np.negative
    if isinstance(head, PairScorer):
        costs = tensors.scorer_costs(query, gallery, head, place)
    else:
        metric = metric_of(head, n_features=query.shape[1])
        costs, similarity = tensors.metric_costs(query, gallery, metric, place), metric.similarity
    best = tensors.lowest_costs(costs, n_query=len(query), n_gallery=len(gallery), k=k, sizes=sizes, device=place)
    return _neighbours(best, similarity)


def _neighbours(best: Best, similarity: Callable[[np.ndarray], np.ndarray]) -> Neighbours:
    return Neighbours(similarity(best.costs).astype(np.float32), best.indices)


def _check_neighbours(k: int, n_gallery: int, threads: int | None) -> None:
    if k < 1 or (threads is not None and threads < 1):
        raise ConfigError(f"k and threads must be at least 1, found k={k}, threads={threads}; raise them (k=, --k)")
    if n_gallery < k:
        raise TooFewSamples(
            f"{k} neighbours need a gallery of at least {k} rows, found {n_gallery}; "
            f"add train clips (--real) or lower k (k=, --k)"
        )


def _checked_pair(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    a, b = _checked(a, "query"), _checked(b, "gallery")
    if a.shape[1] != b.shape[1]:
        raise Mismatch(
            f"query and gallery need the same number of features, found {a.shape[1]} and {b.shape[1]}; "
            f"compute both with the same re-identification model (query=, gallery=, --reid)"
        )
    return a, b


def _checked(rows: Rows, name: str) -> Rows:
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype != np.float32:
        raise Mismatch(
            f"{name} needs float32 features of shape (clips, D) with D ≥ 1, found {rows.dtype} {rows.shape}; "
            f"pass {name}.astype(np.float32), one row for each clip ({name}=)"
        )
    for part in blocks(len(rows), ROWS_AT_ONCE):
        finite = np.isfinite(rows[part]).all(axis=1)
        if not finite.all():
            row = part.start + int(finite.argmin())
            raise DegenerateValues(
                f"{name} features must be finite, found NaN or infinity first in row {row}; "
                f"check that clip's latents and the re-identification model ({name}=, mnemoscope check, --reid)"
            )
    return np.ascontiguousarray(rows)
