import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mnemoscope.audit.threshold import privacy_threshold, recall_gate, require_innocents, threshold_interval
from mnemoscope.core.errors import TooFewSamples

scores = arrays(np.float32, st.integers(20, 60), elements=st.floats(-100, 100, width=32))


def test_order_statistic_by_hand() -> None:
    """Of 0 … 20 the 95th percentile is the 20th value: rank 0.95 · 20 = 19."""
    p_max = np.random.default_rng(0).permutation(21).astype(np.float32)
    assert privacy_threshold(p_max, percentile=95) == 19.0
    assert (p_max > 19.0).sum() == 1


def test_between_two_order_statistics_it_lies_in_proportion() -> None:
    assert privacy_threshold(np.arange(20, dtype=np.float32)) == pytest.approx(18.05)


@given(scores, st.floats(1, 95))
def test_it_is_numpys_percentile_in_float64(p_max: np.ndarray, percentile: float) -> None:
    assert privacy_threshold(p_max, percentile=percentile) == np.percentile(p_max.astype(np.float64), percentile)
    assert recall_gate(p_max, percentile=percentile) == np.percentile(p_max.astype(np.float64), percentile)


@given(scores, st.randoms(use_true_random=False))
def test_order_changes_nothing(p_max: np.ndarray, random) -> None:
    shuffled = p_max[random.sample(range(len(p_max)), len(p_max))]
    assert privacy_threshold(shuffled) == privacy_threshold(p_max)
    assert recall_gate(shuffled, percentile=5) == recall_gate(p_max, percentile=5)


def test_ties_are_not_above_themselves() -> None:
    p_max = np.full(40, 2.5, np.float32)
    assert privacy_threshold(p_max) == 2.5
    assert not (p_max > privacy_threshold(p_max)).any()


@pytest.mark.parametrize(("percentile", "needed"), [(95, 20), (99, 100), (99.9, 1000), (50, 2), (80, 5), (90.5, 11)])
def test_one_flag_needs_so_many_innocents(percentile: float, needed: int) -> None:
    require_innocents(needed, percentile)
    with pytest.raises(TooFewSamples, match=f"at least {needed} holdout clips, got {needed - 1}; .*--percentile"):
        require_innocents(needed - 1, percentile)


def test_too_few_innocents_say_the_remedy() -> None:
    with pytest.raises(TooFewSamples, match="--percentile"):
        privacy_threshold(np.zeros(19, np.float32), percentile=95)


def test_a_95th_percentile_of_1277_innocents_flags_5_1_percent_of_new_ones() -> None:
    """SCIENCE, section 4; the spread over holdouts of this size is 0.6 points."""
    rng = np.random.default_rng(0)
    # The rate of new innocents above tau needs no sample of them: with uniform scores it is 1 - tau.
    rates = [1 - privacy_threshold(rng.random(1277)) for _ in range(4000)]
    assert np.mean(rates) == pytest.approx(0.051, abs=0.0005)
    assert np.std(rates) == pytest.approx(0.006, abs=0.0003)


def ranks(n: int, p: float, confidence: float) -> tuple[int, int]:
    """By counting up: the last rank below which, and the first above which, too little probability lies."""
    tail = (1 - confidence) / 2
    low = max((k for k in range(1, n + 1) if stats.binom.cdf(k - 1, n, p) < tail), default=1)
    high = min((k for k in range(1, n + 1) if stats.binom.sf(k - 1, n, p) <= tail), default=n)
    return low, high


@given(st.integers(20, 400), st.sampled_from([50.0, 80.0, 90.0, 95.0]), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_interval_is_between_the_binomials_ranks(n: int, percentile: float, confidence: float) -> None:
    found = threshold_interval(np.arange(1.0, n + 1)[::-1], percentile=percentile, confidence=confidence)
    assert (found.low, found.high) == ranks(n, percentile / 100, confidence)
    assert found.value == privacy_threshold(np.arange(1.0, n + 1), percentile=percentile)
    assert found.low <= found.value <= found.high


def test_interval_by_hand() -> None:
    """Of 5 coins at most 0 show heads with 1/32: the median lies between the extremes with probability 30/32."""
    found = threshold_interval(np.array([3.0, 1.0, 9.0, 5.0, 7.0]), percentile=50, confidence=30 / 32)
    assert (found.low, found.value, found.high) == (1.0, 5.0, 9.0)


@pytest.mark.parametrize(("n", "percentile", "confidence"), [(200, 95.0, 0.95), (1277, 95.0, 0.95), (60, 50.0, 0.8)])
def test_interval_covers_the_percentile_of_all_innocents(n: int, percentile: float, confidence: float) -> None:
    rng, rounds = np.random.default_rng(3), 2000
    truth = -np.log(1 - percentile / 100)
    found = [
        threshold_interval(s, percentile=percentile, confidence=confidence) for s in rng.exponential(size=(rounds, n))
    ]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert confidence - 0.015 <= covered <= confidence + 0.08
    too_high, too_low = np.mean([e.low > truth for e in found]), np.mean([e.high < truth for e in found])
    assert max(too_high, too_low) <= (1 - confidence) / 2 + 0.012


def test_too_few_innocents_for_an_upper_bound_give_the_highest() -> None:
    """Of 20 innocents none exceeds the 95th percentile in 36 % of cases: no score bounds it from above."""
    rng = np.random.default_rng(4)
    found = [(threshold_interval(s), s.max()) for s in rng.random((2000, 20))]
    assert all(e.high == highest for e, highest in found)
    assert np.mean([e.high < 0.95 for e, _ in found]) == pytest.approx(0.95**20, abs=0.03)


def test_interval_needs_innocents() -> None:
    with pytest.raises(TooFewSamples, match="--percentile"):
        threshold_interval(np.zeros(19))
