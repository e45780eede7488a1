import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew

from mnemoscope.audit.hubness import crowding, hit_skewness, hub_corrected_offset, with_offset
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.search import L2, WeightedL1, matrix, nearest


def hits_before_and_after(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits of a perfect sampler on Gaussian features under −L1, plain and hub-corrected, by the exact search."""
    rng = np.random.default_rng(0)
    gallery, query = (rng.normal(size=(rows, d)).astype(np.float32) for rows in (m, n))
    weight = -np.ones(d)
    # The nearest row of a gallery row is itself; each clip here is a patient.
    others = nearest(gallery, gallery, WeightedL1(weight, 0.0), k=11).similarity[:, 1:]
    changed = with_offset(query, gallery, weight, hub_corrected_offset(crowding(others)))
    plain = nearest(query, gallery, WeightedL1(weight, 0.0)).index[:, 0]
    corrected = nearest(changed[0], changed[1], WeightedL1(changed[2], 0.0)).index[:, 0]
    return np.bincount(plain, minlength=m), np.bincount(corrected, minlength=m)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=60).filter(lambda hits: min(hits) < max(hits)))
def test_skewness_agrees_with_scipy(hits: list[int]) -> None:
    assert hit_skewness(np.array(hits)) == pytest.approx(float(skew(hits)), abs=1e-9)


def test_skewness_by_hand() -> None:
    """Nine clips without a hit and one with ten: (1 − 2p)/√(p (1 − p)) with p = 1/10."""
    assert hit_skewness(np.array([0] * 9 + [10])) == pytest.approx(0.8 / 0.3)


@pytest.mark.parametrize("hits", [[], [0], [3, 3, 3]])
def test_even_hits_have_no_skewness(hits: list[int]) -> None:
    with pytest.raises(DegenerateValues, match="hits that differ"):
        hit_skewness(np.array(hits))


def test_crowding_is_the_mean_over_neighbours() -> None:
    assert crowding(np.array([[1.0, 3.0], [-2.0, -4.0]], np.float32)).tolist() == [2.0, -3.0]
    assert crowding(np.zeros((0, 2))).tolist() == []
    with pytest.raises(TooFewSamples, match="a neighbour of another patient"):
        crowding(np.zeros((3, 0)))
    with pytest.raises(DegenerateValues, match="similarities must be finite"):
        crowding(np.array([[-np.inf]]))


def test_offset_is_half_of_what_lies_above_the_least_crowded() -> None:
    assert hub_corrected_offset(np.array([-3.0, 1.0, 0.0])).tolist() == [0.0, 2.0, 1.5]
    assert hub_corrected_offset(np.array([])).tolist() == []


@settings(deadline=None)  # the first search compiles
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 15), st.integers(1, 6))
def test_the_search_finds_the_largest_of_twice_the_similarity_less_crowding(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = (rng.random((rows, d)).astype(np.float32) for rows in (n, m))
    head, r = WeightedL1(-rng.random(d), 1.5), rng.normal(0, 0.3, m)
    brute = 2 * (head.bias + np.abs(query[:, None].astype(float) - gallery[None]) @ head.weight) - r
    changed = with_offset(query, gallery, head.weight, hub_corrected_offset(r))
    found = nearest(changed[0], changed[1], WeightedL1(changed[2], head.bias)).index[:, 0]
    chosen = np.take_along_axis(brute, found[:, None], axis=1)[:, 0]
    assert chosen == pytest.approx(brute.max(axis=1), abs=1e-5)


def test_the_offset_is_taken_from_the_similarity_and_types_stay() -> None:
    query, gallery = np.array([[0.5, 0.0]], np.float32), np.array([[0.5, 1.0], [0.0, 0.0]], np.float32)
    changed = with_offset(query, gallery, np.array([-1.0, -2.0]), np.array([0.25, 0.0]))
    assert [part.dtype for part in changed] == [np.float32, np.float32, np.float64]
    plain = matrix(query, gallery, WeightedL1(np.array([-1.0, -2.0]), 3.0))
    charged = matrix(changed[0], changed[1], WeightedL1(changed[2], 3.0))
    np.testing.assert_allclose(charged, plain - [[0.25, 0.0]], rtol=1e-6)
    assert query.shape == (1, 2)


def test_offsets_that_would_reward_are_refused() -> None:
    one = np.zeros((1, 1), np.float32)
    with pytest.raises(DegenerateValues, match="at least 0"):
        with_offset(one, one, -np.ones(1), np.array([-0.1]))
    with pytest.raises(Mismatch, match=r"found \(2,\) for 1"):
        with_offset(one, one, -np.ones(1), np.zeros(2))


def test_a_perfect_sampler_reaches_more_clips_without_hubs() -> None:
    plain, corrected = hits_before_and_after(2000, 300, 64)
    assert hit_skewness(plain) > 3
    assert hit_skewness(corrected) < hit_skewness(plain) / 2
    assert (corrected > 0).sum() > 1.1 * (plain > 0).sum()


@pytest.mark.slow
def test_the_reference_sampler_reaches_more_clips_without_hubs() -> None:
    """100,000 queries, 7465 clips, 128 Gaussian features: under L2 these reach 72.9 %."""
    rng = np.random.default_rng(0)
    gallery, query = (rng.normal(size=(rows, 128)).astype(np.float32) for rows in (7465, 100_000))
    euclidean = np.bincount(nearest(query, gallery, L2()).index[:, 0], minlength=7465)
    assert (euclidean > 0).mean() == pytest.approx(0.729, abs=0.01)
    plain, corrected = hits_before_and_after(100_000, 7465, 128)
    assert (plain > 0).mean() < 0.8
    assert (corrected > 0).mean() > 0.95
    assert hit_skewness(corrected) < hit_skewness(plain) / 2
