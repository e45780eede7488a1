"""The search on the processor: gallery blocks one after the other, query blocks in threads."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Float64

from mnemoscope.search.blocks import Blocking, blocks
from mnemoscope.search.kernels import Best, Formula, Normalised, all_costs, row_costs
from mnemoscope.search.metrics import Metric
from mnemoscope.search.screens import ByteScreen, ProductScreen

Rows = Float32[np.ndarray, "_ D"]


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lowest_costs(query: Rows, gallery: Rows, metric: Metric, *, k: int, sizes: Blocking, threads: int) -> Best:
    """The k lowest costs of each query, exactly; of equal costs the smaller gallery index.

    Args:
        query: shape (N, D), C-contiguous.
        gallery: shape (M, D) with M ≥ k, C-contiguous.
        metric: the head in the common formula.
        k: neighbours of each query.
        sizes: queries that a thread takes and gallery rows that are screened at once.
        threads: number of threads.
    """
    best = Best(np.full((len(query), k), np.inf), np.full((len(query), k), -1, np.int64))
    formula, u, v = _operands(query, gallery, metric)
    screen = (ProductScreen if metric.squared else ByteScreen)(formula, u, v)
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks(len(gallery), sizes.gallery):
            search = screen.open_block(block)
            # Exhausting the map waits for the threads and raises what they raised.
            list(pool.map(lambda part, search=search: search(part, best.part(part)), blocks(len(query), sizes.queries)))
    return best


def pair_costs(a: Rows, b: Rows, metric: Metric) -> Float64[np.ndarray, " n"]:
    """Cost of each row of ``a`` against the same row of ``b``."""
    out = np.empty(len(a))
    row_costs(*_operands(a, b, metric), out)
    return out


def cost_matrix(a: Rows, b: Rows, metric: Metric) -> Float64[np.ndarray, "n m"]:
    """Cost of each row of ``a`` against each row of ``b``."""
    out = np.empty((len(a), len(b)))
    all_costs(*_operands(a, b, metric), out)
    return out


def _operands(a: Rows, b: Rows, metric: Metric) -> tuple[Formula, Normalised, Normalised]:
    u, v = Normalised(a, *metric.normal(a)), Normalised(b, *metric.normal(b))
    return Formula(metric.weight, metric.squared), u, v
