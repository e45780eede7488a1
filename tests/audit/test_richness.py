import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.richness import (
    chao1,
    estimate_ratio,
    good_turing_coverage,
    image_retrieval_score,
    irs_adjusted,
    occupancy_expectation,
    occupancy_sd,
)
from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.core.types import Estimate
from tests.reference.recall_oracles import occupancy_moments

some_hits = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


def test_chao1_by_hand() -> None:
    """Nine clips hit, three of them once and three twice: 9 + 3·2/(2·4); the interval is EstimateS's for these."""
    found = chao1(np.array([0, 1, 1, 4, 2, 5, 2, 4, 1, 2]))
    assert found.value == 9.75
    assert (found.low, found.high) == pytest.approx((9.07, 17.45), abs=0.005)


def test_chao1_without_doubles_by_hand() -> None:
    """f1 = 4, f2 = 0: unseen 6, variance 4·3/2 + 4·7²/4 − 4⁴/(4·10) = 48.6."""
    found = chao1(np.array([1, 1, 1, 1]))
    spread = np.exp(1.959964 * np.sqrt(np.log(1 + 48.6 / 36)))
    assert (found.value, found.low, found.high) == pytest.approx((10, 4 + 6 / spread, 4 + 6 * spread))


@pytest.mark.parametrize("size", [60, 200, 600])
def test_chao1_covers_an_even_gallery(size: int) -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        found = chao1(np.bincount(rng.integers(0, 200, size), minlength=200))
        covered += found.low <= 200 <= found.high
    assert covered / 300 >= 0.9


def test_nothing_single_nothing_unseen() -> None:
    found = chao1(np.array([50, 60, 0]))
    assert (found.value, found.low) == (2, 2)
    assert found.high == pytest.approx(2, abs=1e-6)
    assert chao1(np.array([2])).high > 1.2


@given(some_hits, st.randoms())
def test_order_and_clips_without_hits_change_nothing(hits: list[int], random) -> None:
    shuffled = [*random.sample(hits, len(hits)), 0, 0]
    assert chao1(np.array(shuffled)) == chao1(np.array(hits))
    assert good_turing_coverage(np.array(shuffled)) == good_turing_coverage(np.array(hits))


@given(some_hits)
def test_bounds_enclose_the_value(hits: list[int]) -> None:
    richness, coverage = chao1(np.array(hits)), good_turing_coverage(np.array(hits))
    assert np.count_nonzero(hits) <= richness.low <= richness.value <= richness.high
    assert 0 <= coverage.low <= coverage.value <= coverage.high <= 1


def test_coverage_by_hand() -> None:
    """Ten hits, two of them single, one clip hit twice: Wilson's half-widths joined with 1.96·√2/10."""
    found = good_turing_coverage(np.array([1, 1, 2, 6]))
    assert found.value == 0.8
    assert found.low == pytest.approx(0.8 - np.hypot(0.8 - 0.49016, 0.27718), abs=1e-4)
    assert found.high == 1.0


def test_coverage_has_a_width_where_all_hits_are_single() -> None:
    found = good_turing_coverage(np.ones(5, int))
    assert (found.value, found.low) == (0, 0)
    assert 0.3 < found.high < 0.6


@pytest.mark.parametrize(("size", "exponent"), [(100, 0.0), (300, 1.0), (1300, 0.7), (50, 1.5)])
def test_coverage_covers_the_share_that_was_reached(size: int, exponent: float) -> None:
    p = np.arange(1.0, 501) ** -exponent
    p /= p.sum()
    rng, covered = np.random.default_rng(2), 0
    for _ in range(400):
        hits = rng.multinomial(size, p)
        found = good_turing_coverage(hits)
        covered += found.low <= p[hits > 0].sum() <= found.high
    assert 0.92 <= covered / 400 <= 0.995


@pytest.mark.parametrize(("n_gallery", "n", "expected"), [(7465, 1277, 1173.8), (2580, 368, 343.0), (3559, 519, 483.0)])
def test_occupancy_meets_the_reference_values(n_gallery: int, n: int, expected: float) -> None:
    assert occupancy_expectation(n_gallery, n) == pytest.approx(expected, abs=0.05)


@given(st.integers(1, 5), st.integers(0, 5))
def test_occupancy_is_that_over_all_sequences(n_cells: int, n_draws: int) -> None:
    found = occupancy_expectation(n_cells, n_draws), occupancy_sd(n_cells, n_draws)
    assert found == pytest.approx(occupancy_moments(n_cells, n_draws), abs=1e-7)


def test_occupancy_keeps_its_digits_in_a_huge_gallery() -> None:
    """Of a million cells and 1000 draws the pairs that meet are nearly Poisson, of mean and variance 0.4995."""
    assert 1000 - occupancy_expectation(10**6, 1000) == pytest.approx(0.4993, abs=1e-4)
    assert occupancy_sd(10**6, 1000) == pytest.approx(np.sqrt(0.4990), abs=1e-3)


@pytest.mark.parametrize(("distinct", "expected"), [(1159, 0.867), (692, 0.124)])
def test_irs_meets_the_reference_values(distinct: int, expected: float) -> None:
    assert image_retrieval_score(distinct, 1277, 7465).value == pytest.approx(expected, abs=5e-4)


def test_irs_finds_the_size_that_was_drawn_from() -> None:
    assert round(occupancy_expectation(3000, 5000)) == 2434
    assert image_retrieval_score(2434, 5000, 10_000).value * 10_000 == pytest.approx(3000, abs=1)


@pytest.mark.parametrize(("size", "n"), [(900, 1277), (3000, 1277), (100, 40)])
def test_irs_covers_the_size_that_was_drawn_from(size: int, n: int) -> None:
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        found = image_retrieval_score(len(set(rng.integers(0, size, n).tolist())), n, 7465)
        covered += found.low * 7465 <= size <= found.high * 7465
    assert 0.91 <= covered / 300 <= 0.99


def test_beyond_the_whole_gallery_the_score_is_one_and_unbounded_above() -> None:
    more_than_expected = image_retrieval_score(1180, 1277, 7465)
    assert (more_than_expected.value, more_than_expected.high) == (1, 1)
    assert 0.8 < more_than_expected.low < 1
    assert image_retrieval_score(1277, 1277, 7465) == Estimate(1, 1, 1)
    assert image_retrieval_score(1159, 1277, 7465).high == 1
    assert image_retrieval_score(1, 1, 1) == Estimate(1, 1, 1)


def test_one_clip_hit_again_and_again_is_one_clip() -> None:
    assert image_retrieval_score(1, 50, 100).value == pytest.approx(0.01)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(TooFewSamples, match="at least one train clip hit, found 0"):
        image_retrieval_score(0, 10, 10)
    with pytest.raises(DegenerateValues, match="10 queries over 99 train clips cannot hit 11"):
        image_retrieval_score(11, 10, 99)
    for statistic in (chao1, good_turing_coverage):
        with pytest.raises(TooFewSamples, match="hits on train clips, found none"):
            statistic(np.zeros(4, int))


def test_adjusted_irs_by_hand() -> None:
    """MOVER-R with .12 (.11 to .14) over .8 (.7 to 1.0), the roots of Donner and Zou's quadratic."""
    found = irs_adjusted(Estimate(0.12, 0.11, 0.14), Estimate(0.8, 0.7, 1.0))
    low, _ = np.sort(np.roots([1.0 * 0.6, -2 * 0.12 * 0.8, 0.11 * 0.13]).real)
    _, high = np.sort(np.roots([0.7 * 0.9, -2 * 0.12 * 0.8, 0.14 * 0.10]).real)
    assert (found.value, found.low, found.high) == pytest.approx((0.15, low, high))


def test_a_ratio_of_counts_is_covered() -> None:
    rng, covered = np.random.default_rng(4), 0
    for _ in range(500):
        a, b = rng.normal(10, 1), rng.normal(20, 2)
        found = estimate_ratio(Estimate(a, a - 1.96, a + 1.96), Estimate(b, b - 3.92, b + 3.92))
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / 500 <= 0.98


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.01, 100))
def test_a_ratio_turns_over_with_its_parts_and_knows_no_unit(a: float, b: float, unit: float) -> None:
    first, second = Estimate(a, a * 0.8, a * 1.3), Estimate(b, b * 0.7, b * 1.2)
    found, turned = estimate_ratio(first, second), estimate_ratio(second, first)
    assert (found.value, found.low, found.high) == pytest.approx((1 / turned.value, 1 / turned.high, 1 / turned.low))
    scaled = estimate_ratio(Estimate(*(unit * x for x in (first.value, first.low, first.high))), second)
    assert (scaled.low, scaled.high) == pytest.approx((unit * found.low, unit * found.high))


def test_nothing_is_divided_by_what_may_be_nothing() -> None:
    with pytest.raises(DegenerateValues, match="interval lies above 0"):
        estimate_ratio(Estimate(1, 0.5, 2), Estimate(1, 0, 2))
    assert estimate_ratio(Estimate(0, 0, 1), Estimate(2, 1, 3)).low == 0
