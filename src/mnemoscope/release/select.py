"""Select: which synthetic clips to keep, by the train clips they reach and their ejection fraction; never by pixels."""

import heapq
from collections import defaultdict

import numpy as np

from mnemoscope.core.errors import DegenerateValues
from mnemoscope.core.types import ClipIndex, Flags

NOTHING = -1  # reaches no train clip, or has no known ejection fraction
EF_EDGES = np.arange(0.0, 101.0, 10.0)
LARGE = 5


def in_rounds(nearest: ClipIndex, usable: Flags, order: ClipIndex, *, most: int) -> ClipIndex:
    """Up to ``most`` usable queries of each train clip: first one of each, then a second of each, and so on.

    Args:
        nearest: number of the train clip that each query reaches, or ``NOTHING``, (N,).
        usable: queries that may be chosen, (N,).
        order: all queries, the preferred first, (N,).
        most: queries of one train clip, at least 1; the paper's recall-small has 1, recall-large ``LARGE``.

    Returns:
        Numbers of queries, round by round, in each round by ``order``.

    Source: Dombrowski et al. 2024, Table 5. Which query of a train clip is taken is not said there; here ``order``
    says it.
    """
    able = order[(usable & (nearest != NOTHING))[order]]
    turn = _turns(nearest[able])
    first = np.argsort(turn, kind="stable")
    return able[first[turn[first] < most]]


def _turns(groups: np.ndarray) -> np.ndarray:
    """How often each element's value occurred before it, (n,)."""
    by_group = np.argsort(groups, kind="stable")
    _, start, count = np.unique(groups[by_group], return_index=True, return_counts=True)
    turn = np.empty(len(groups), dtype=np.int64)
    turn[by_group] = np.arange(len(groups)) - np.repeat(start, count)
    return turn


def coverage_greedy(
    nearest: ClipIndex, ef_bin: ClipIndex, usable: Flags, order: ClipIndex, *, targets: np.ndarray, ef_weight: float
) -> ClipIndex:
    """Usable queries in the order in which each adds most to :func:`coverage_value`, as many as ``targets`` ask for.

    Args:
        nearest: number of the train clip that each query reaches, or ``NOTHING``, (N,).
        ef_bin: number of its bin of ejection fraction, or ``NOTHING``, (N,).
        usable: queries that may be chosen, (N,).
        order: all queries; of equally useful ones the earlier is taken, (N,).
        targets: clips wanted in each bin, (B,); their sum is the number of clips chosen.
        ef_weight: what a clip that its bin still wants is worth, beside 1 for a train clip reached for the first time.

    Returns:
        Numbers of queries, the most useful first; fewer than wanted where no more are usable.

    Source: Nemhauser et al. 1978: the value is monotone and submodular, so that greedy reaches at least 1 − 1/e of
    the best value; the lazy evaluation is Minoux 1978.
    """
    hits: dict[int, int] = defaultdict(int)
    wanted: dict[int, int] = defaultdict(int, enumerate(targets.tolist()))

    def gain(group: tuple[int, int]) -> float:
        reach = 0.0 if group[0] == NOTHING else 1.0 / (1 + hits[group[0]])
        return reach + ef_weight * (wanted[group[1]] > 0)

    waiting = _members(nearest, ef_bin, order[usable[order]])
    # Gains only fall, so the first entry whose gain is still true is the best of all.
    heap = [(-gain(group), members[-1][0], group) for group, members in waiting.items()]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < int(targets.sum()):
        promised, _, group = heap[0]
        if gain(group) == -promised:
            chosen.append(waiting[group].pop()[1])
            hits[group[0]] += 1
            wanted[group[1]] -= 1
            if not waiting[group]:
                heapq.heappop(heap)
                continue
        heapq.heapreplace(heap, (-gain(group), waiting[group][-1][0], group))
    return np.array(chosen, dtype=np.int64)


def _members(nearest: ClipIndex, ef_bin: ClipIndex, able: ClipIndex) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Queries that are worth the same, with their places in the order, the preferred last."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for place in range(len(able) - 1, -1, -1):
        query = int(able[place])
        groups[int(nearest[query]), int(ef_bin[query])].append((place, query))
    return groups


def coverage_value(
    nearest: ClipIndex, ef_bin: ClipIndex, chosen: ClipIndex, *, targets: np.ndarray, ef_weight: float
) -> float:
    """Worth of a choice: Σ over train clips of 1 + 1/2 + … + 1/hits, plus ``ef_weight`` per clip its bin wanted."""
    reached = nearest[chosen][nearest[chosen] != NOTHING]
    hits = np.bincount(reached) if len(reached) else np.zeros(0, int)
    reach = sum((1.0 / np.arange(1, count + 1)).sum() for count in hits)
    bins = np.bincount(ef_bin[chosen][ef_bin[chosen] != NOTHING], minlength=len(targets))
    return float(reach + ef_weight * np.minimum(bins, targets).sum())


def ef_bins(ef: np.ndarray) -> ClipIndex:
    """The bin between ``EF_EDGES`` of each ejection fraction in percent, ``NOTHING`` where it is NaN, (N,).

    Raises:
        DegenerateValues: for values outside 0–100.
    """
    outside = ef[~np.isnan(ef) & ((ef < EF_EDGES[0]) | (ef > EF_EDGES[-1]))]
    if len(outside):
        raise DegenerateValues(f"expected ejection fractions of 0–100 %, found {outside[0]:g}; correct the table")
    found = np.searchsorted(EF_EDGES, ef, side="right") - 1
    return np.where(np.isnan(ef), NOTHING, np.minimum(found, len(EF_EDGES) - 2))


def shared_out(weights: np.ndarray, count: int) -> np.ndarray:
    """``count`` clips over bins in proportion to ``weights``, whole numbers by largest remainder, (B,).

    Raises:
        DegenerateValues: if no weight is above zero.
    """
    if not weights.sum() > 0:
        raise DegenerateValues("expected an ejection fraction of at least one clip; choose without (--ef-prior none)")
    exact = weights / weights.sum() * count
    whole = np.floor(exact).astype(np.int64)
    most_left = np.argsort(-(exact - whole), kind="stable")[: count - whole.sum()]
    whole[most_left] += 1
    return whole
