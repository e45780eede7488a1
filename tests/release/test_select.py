from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import DegenerateValues
from mnemoscope.release.select import (
    NOTHING,
    coverage_greedy,
    coverage_value,
    ef_bins,
    in_rounds,
    shared_out,
)

SETS = st.integers(0, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(NOTHING, 3), min_size=n, max_size=n),
        st.lists(st.integers(NOTHING, 2), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.permutations(range(n)),
    )
)
TARGETS = st.lists(st.integers(0, 3), min_size=3, max_size=3)
WEIGHT = st.sampled_from([0.0, 0.3, 1.0, 2.0])


def arrays(
    case: tuple[list[int], list[int], list[bool], list[int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    nearest, ef_bin, usable, order = case
    return np.array(nearest, int), np.array(ef_bin, int), np.array(usable, bool), np.array(order, int)


def one_by_one(
    nearest: np.ndarray,
    ef_bin: np.ndarray,
    usable: np.ndarray,
    order: np.ndarray,
    targets: np.ndarray,
    ef_weight: float,
) -> list[int]:
    """Greedy by its definition: every candidate is tried at every step, the first of the best is taken."""

    def worth(chosen: list[int]) -> float:
        return coverage_value(nearest, ef_bin, np.array(chosen, int), targets=targets, ef_weight=ef_weight)

    chosen: list[int] = []
    left = [int(query) for query in order if usable[query]]
    while left and len(chosen) < targets.sum():
        gains = [round(worth([*chosen, query]) - worth(chosen), 9) for query in left]
        chosen.append(left.pop(int(np.argmax(gains))))
    return chosen


def best_value(
    nearest: np.ndarray, ef_bin: np.ndarray, usable: np.ndarray, targets: np.ndarray, ef_weight: float
) -> float:
    """Of all choices of that size."""
    able = np.flatnonzero(usable)
    size = min(len(able), int(targets.sum()))
    return max(
        coverage_value(nearest, ef_bin, np.array(some, int), targets=targets, ef_weight=ef_weight)
        for some in combinations(able.tolist(), size)
    )


@given(SETS, TARGETS, WEIGHT)
def test_lazy_greedy_is_greedy_by_its_definition(case: tuple, targets: list[int], ef_weight: float) -> None:
    nearest, ef_bin, usable, order = arrays(case)
    wanted = np.array(targets)
    found = coverage_greedy(nearest, ef_bin, usable, order, targets=wanted, ef_weight=ef_weight)
    assert found.tolist() == one_by_one(nearest, ef_bin, usable, order, wanted, ef_weight)


@given(SETS, TARGETS, WEIGHT)
def test_greedy_keeps_its_promise_against_every_choice(case: tuple, targets: list[int], ef_weight: float) -> None:
    nearest, ef_bin, usable, order = arrays(case)
    wanted = np.array(targets)
    found = coverage_greedy(nearest, ef_bin, usable, order, targets=wanted, ef_weight=ef_weight)
    value = coverage_value(nearest, ef_bin, found, targets=wanted, ef_weight=ef_weight)
    best = best_value(nearest, ef_bin, usable, wanted, ef_weight)
    assert value >= (1 - 1 / np.e) * best - 1e-9
    if ef_weight == 0:  # a sum of concave functions of disjoint groups: greedy is then the best of all
        assert value == pytest.approx(best)
    assert usable[found].all()
    assert len(set(found.tolist())) == len(found) == min(usable.sum(), wanted.sum())


def test_value_by_hand() -> None:
    nearest, ef_bin = np.array([0, 0, 0, 1, NOTHING]), np.array([0, 0, 1, 1, NOTHING])
    value = coverage_value(nearest, ef_bin, np.arange(5), targets=np.array([1, 3]), ef_weight=10.0)
    assert value == pytest.approx(1 + 1 / 2 + 1 / 3 + 1 + 10 * (1 + 2))


def test_the_prior_decides_among_equals_and_coverage_among_the_wanted() -> None:
    nearest = np.array([0, 1, 1, 2, 3])
    ef_bin = np.array([0, 0, 1, 0, 1])
    order, usable = np.arange(5), np.ones(5, bool)
    found = coverage_greedy(nearest, ef_bin, usable, order, targets=np.array([1, 2]), ef_weight=1.0)
    assert found.tolist() == [0, 2, 4]


@given(SETS, st.integers(1, 4))
def test_rounds_by_their_definition(case: tuple, most: int) -> None:
    nearest, _, usable, order = arrays(case)
    of_clip = {clip: [int(query) for query in order if usable[query] and nearest[query] == clip] for clip in range(4)}
    place = {int(query): number for number, query in enumerate(order)}
    expected = [
        query
        for turn in range(most)
        for query in sorted((some[turn] for some in of_clip.values() if len(some) > turn), key=place.__getitem__)
    ]
    assert in_rounds(nearest, usable, order, most=most).tolist() == expected


def test_bins_hold_their_lower_edge_and_the_last_both() -> None:
    assert ef_bins(np.array([0.0, 9.9, 10.0, 55.0, 100.0, np.nan])).tolist() == [0, 0, 1, 5, 9, NOTHING]
    with pytest.raises(DegenerateValues, match=r"0–100 %, found 101"):
        ef_bins(np.array([50.0, 101.0]))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10).filter(any), st.integers(0, 200))
def test_shares_are_whole_and_within_one_of_exact(weights: list[int], count: int) -> None:
    shares = shared_out(np.array(weights, float), count)
    assert shares.sum() == count
    assert (np.abs(shares - np.array(weights) / sum(weights) * count) < 1).all()


def test_shares_of_nothing_are_refused() -> None:
    assert shared_out(np.array([1.0, 1.0, 2.0]), 5).tolist() == [1, 1, 3]
    with pytest.raises(DegenerateValues, match="--ef-prior none"):
        shared_out(np.zeros(3), 5)
