"""The search on any torch device, and every head that is a function of |q − g|: chunked, in plain torch.

Costs are float64 throughout: an accelerator has the throughput, and the result is the processor's to the last rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from mnemoscope.core.errors import ConfigError, DegenerateValues, Mismatch
from mnemoscope.search.blocks import Blocking, blocks
from mnemoscope.search.heads import PairScorer
from mnemoscope.search.kernels import Best, Normalised
from mnemoscope.search.metrics import Metric

Rows = Float32[np.ndarray, "_ D"]
# Costs, shape (n, m) float64, of a slice of queries against a slice of the gallery.
CostBlock = Callable[[slice, slice], torch.Tensor]

# Pairs that a scorer sees at once: 32 MB of differences at 128 features.
PAIRS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class ModuleHead:
    """A torch module from (n, D) to (n,) or (n, 1), for example an MLP, used as a head.

    The caller puts the module into evaluation mode and onto the device of the search.
    """

    module: torch.nn.Module

    def score(self, abs_difference: torch.Tensor) -> torch.Tensor:
        """One similarity for each pair, without gradients: (n,) from (n, D)."""
        with torch.inference_mode():
            return self.module(abs_difference).reshape(len(abs_difference))


def torch_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ConfigError: if torch does not know it or it is not there.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r} cannot be used ({reason}); use one that torch has here, or device='cpu' (--device cpu)"
        ) from error


def metric_costs(query: Rows, gallery: Rows, metric: Metric, device: torch.device) -> CostBlock:
    """Costs of a closed-form head: one ``cdist`` for the features that add to the cost, one for those that subtract.

    Raises:
        ConfigError: on a device without float64.
    """
    if device.type == "mps":
        raise ConfigError(
            "the search needs float64, device mps has none; use the processor (device='cpu', --device cpu)"
        )
    power = 2.0 if metric.squared else 1.0
    size = np.abs(metric.weight) ** (1.0 / power)
    signs = [(sign, np.flatnonzero(sign * metric.weight > 0)) for sign in (1.0, -1.0)]
    u, v = Normalised(query, *metric.normal(query)), Normalised(gallery, *metric.normal(gallery))

    def side(rows: Normalised, features: np.ndarray) -> torch.Tensor:
        normal = (rows.rows[:, features] - rows.shift[:, None]) * rows.scale[:, None] * size[features]
        return torch.from_numpy(normal).to(device)

    def costs(queries: slice, block: slice) -> torch.Tensor:
        total = torch.zeros(queries.stop - queries.start, block.stop - block.start, dtype=torch.float64, device=device)
        for sign, features in signs:
            if features.size:
                # Through matrix products a copy would not be at distance 0.
                q, g = side(u.part(queries), features), side(v.part(block), features)
                distance = torch.cdist(q, g, p=power, compute_mode="donot_use_mm_for_euclid_dist")
                total += sign * distance**power
        return total

    return costs


def scorer_costs(query: Rows, gallery: Rows, scorer: PairScorer, device: torch.device) -> CostBlock:
    """Costs (minus the score) of a head that sees absolute differences, so many pairs at once as fit in memory."""

    def costs(queries: slice, block: slice) -> torch.Tensor:
        g = torch.from_numpy(gallery[block]).to(device)
        step = max(1, PAIRS_AT_ONCE // len(g))
        parts = [slice(start, min(start + step, queries.stop)) for start in range(queries.start, queries.stop, step)]
        return torch.cat([_minus_scores(scorer, query[part], g) for part in parts])

    return costs


def scorer_matrix(query: Rows, gallery: Rows, scorer: PairScorer, device: torch.device) -> np.ndarray:
    """Score of each query against each gallery row, shape (N, M)."""
    if not (len(query) and len(gallery)):
        return np.empty((len(query), len(gallery)))
    costs = scorer_costs(query, gallery, scorer, device)
    return -costs(slice(0, len(query)), slice(0, len(gallery))).cpu().numpy()


def scorer_pairs(a: Rows, b: Rows, scorer: PairScorer, device: torch.device) -> np.ndarray:
    """Score of each row of ``a`` against the same row of ``b``, shape (n,)."""
    scores = np.empty(len(a))
    for start in range(0, len(a), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        difference = torch.from_numpy(a[part]).to(device).sub_(torch.from_numpy(b[part]).to(device)).abs_()
        scores[part] = _scores(scorer, difference).cpu().numpy()
    return scores


def lowest_costs(
    costs: CostBlock, *, n_query: int, n_gallery: int, k: int, sizes: Blocking, device: torch.device
) -> Best:
    """The k lowest costs of each query; of equal costs the smaller gallery index.

    Args:
        costs: gives the costs of a block of pairs.
        n_query: N.
        n_gallery: M, at least k.
        k: neighbours of each query.
        sizes: rows of one block of costs.
        device: where the costs are.
    """
    best = Best(np.empty((n_query, k)), np.empty((n_query, k), np.int64))
    for queries in blocks(n_query, sizes.queries):
        lowest, index = _nothing_yet(queries, k, device)
        for block in blocks(n_gallery, sizes.gallery):
            found = torch.arange(block.start, block.stop, device=device).expand(len(lowest), -1)
            pool, candidates = torch.cat([lowest, costs(queries, block)], 1), torch.cat([index, found], 1)
            lowest, places = _first_lowest(pool, k)
            index = candidates.gather(1, places)
        best.costs[queries], best.indices[queries] = lowest.cpu().numpy(), index.cpu().numpy()
    return best


def _nothing_yet(queries: slice, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (queries.stop - queries.start, k)
    costs = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
    return costs, torch.full(shape, -1, dtype=torch.int64, device=device)


def _first_lowest(costs: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    # argmin promises the first of equal values, topk does not: columns come in ascending order of gallery index.
    values, places = [], []
    for _ in range(k):
        place = costs.argmin(dim=1, keepdim=True)
        values.append(costs.gather(1, place))
        places.append(place)
        costs.scatter_(1, place, torch.inf)
    return torch.cat(values, 1), torch.cat(places, 1)


def _minus_scores(scorer: PairScorer, query: Rows, gallery: torch.Tensor) -> torch.Tensor:
    q = torch.from_numpy(query).to(gallery.device)
    difference = (q[:, None, :] - gallery[None, :, :]).abs_().flatten(0, 1)
    return -_scores(scorer, difference).reshape(len(query), len(gallery))


def _scores(scorer: PairScorer, difference: torch.Tensor) -> torch.Tensor:
    scores = scorer.score(difference)
    if scores.shape != (len(difference),):
        raise Mismatch(
            f"a head's score must return shape ({len(difference)},) for {len(difference)} differences, "
            f"found {tuple(scores.shape)}; wrap the module in ModuleHead(module) (head=)"
        )
    if not torch.isfinite(scores).all():
        raise DegenerateValues("the head gave NaN or infinite scores; train it again or pass another (head=, --reid)")
    return scores.to(torch.float64)
