from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.audit.intervals import share_difference, wilson
from mnemoscope.audit.privacy import benjamini_hochberg, conformal_p, flag_count_p, privacy
from mnemoscope.audit.threshold import privacy_threshold

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)
p_values = st.lists(st.integers(1, 40).map(lambda k: k / 40), max_size=30).map(np.array)


@given(scores, scores)
def test_conformal_p_agrees_with_counting(p_max: np.ndarray, holdout: np.ndarray) -> None:
    expected = [(1 + sum(h >= score for h in holdout)) / (1 + len(holdout)) for score in p_max]
    assert conformal_p(p_max, holdout).tolist() == expected


def test_conformal_p_of_an_innocent_is_uniform() -> None:
    """Exchangeable with 9 others, each of the 10 ranks is as likely as any other."""
    draw = np.random.default_rng(0).random((20_000, 10))
    p = np.array([conformal_p(row[:1], row[1:])[0] for row in draw])
    counts = np.bincount(np.rint(p * 10).astype(int), minlength=11)[1:]
    assert stats.chisquare(counts).pvalue > 0.001


def step_up(p: np.ndarray, rate: float) -> np.ndarray:
    """Benjamini and Hochberg's words: find the largest k with p(k) <= rate k / N, reject the k smallest."""
    order = np.argsort(p, kind="stable")
    k = max((i + 1 for i in range(len(p)) if p[order[i]] <= rate * (i + 1) / len(p)), default=0)
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[:k]] = True
    return rejected


@given(p_values, st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5]))
def test_benjamini_hochberg_is_step_up(p: np.ndarray, rate: float) -> None:
    assert np.array_equal(benjamini_hochberg(p, rate=rate), step_up(p, rate))


@given(p_values.filter(len), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_benjamini_hochberg_agrees_with_scipys_adjusted_values(p: np.ndarray, rate: float) -> None:
    adjusted = stats.false_discovery_control(p)
    clear = np.abs(adjusted - rate) > 1e-9
    assert np.array_equal(benjamini_hochberg(p, rate=rate)[clear], (adjusted <= rate)[clear])


def test_no_clip_no_discovery() -> None:
    assert benjamini_hochberg(np.array([]), rate=0.1).tolist() == []


def test_false_discoveries_stay_at_their_rate() -> None:
    """Among 60 innocents and 20 plain copies, at most a tenth of the named are innocent on average."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(400):
        p_max = np.concatenate([rng.normal(0, 1, 60), np.full(20, 50.0)])
        named = benjamini_hochberg(conformal_p(p_max, rng.normal(0, 1, 300)), rate=0.1)
        assert named[60:].all()
        shares.append(named[:60].sum() / named.sum())
    assert np.mean(shares) == pytest.approx(0.1 * 60 / 80, abs=0.015)


def simulated_counts(n: int, m: int, percentile: float, *, rounds: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Flags of n innocents, and how many of the m that set tau lie above it."""
    rng = np.random.default_rng(2)
    holdout, synthetic = rng.random((rounds, m)), rng.random((rounds, n))
    tau = np.percentile(holdout, percentile, axis=1, keepdims=True)
    return (synthetic > tau).sum(axis=1), (holdout > tau).sum(axis=1)


@pytest.mark.parametrize(("n", "m", "percentile"), [(40, 100, 95.0), (200, 60, 90.0), (30, 21, 95.0)])
def test_flag_count_p_is_the_chance_under_the_null(n: int, m: int, percentile: float) -> None:
    flags, above = simulated_counts(n, m, percentile)
    assert len(set(above)) == 1
    for count in (1, int(np.quantile(flags, 0.9)), int(np.quantile(flags, 0.99))):
        said, simulated = flag_count_p(count, n, int(above[0]), m), (flags >= count).mean()
        spread = 4 * np.sqrt(said * (1 - said) / len(flags)) + 1e-4
        assert said >= simulated - spread, "not conservative"
        assert said <= 1.6 * simulated + spread, "far from the truth"


def test_flag_count_p_is_exact_where_tau_is_one_of_the_innocents() -> None:
    """At 21 innocents the 95th percentile is the 20th of them, and nothing is interpolated."""
    flags, above = simulated_counts(30, 21, 95.0)
    for count in (1, 2, 5):
        assert flag_count_p(count, 30, int(above[0]), 21) == pytest.approx((flags >= count).mean(), abs=0.011)


@pytest.mark.parametrize("limit", [0.1, 0.05, 0.01])
def test_an_innocent_set_is_called_a_leak_no_more_often_than_said(limit: float) -> None:
    flags, above = simulated_counts(50, 120, 95.0)
    p = np.array([flag_count_p(count, 50, int(above[0]), 120) for count in range(51)])[flags]
    assert (p <= limit).mean() <= limit + 3 * np.sqrt(limit / len(p))


def test_no_flag_is_certain_and_more_flags_are_rarer() -> None:
    p = [flag_count_p(count, 100, 5, 100) for count in range(101)]
    assert p[0] == 1.0
    assert (np.diff(p) < 0).all()
    assert p[-1] > 0


def test_a_rare_count_has_a_chance_that_can_be_compared() -> None:
    """With one innocent, which is above nothing, the rate is Beta(1, 1): every count from 0 to n is as likely."""
    assert flag_count_p(7, 9, 0, 1) == pytest.approx(3 / 10)
    # Against Beta(1, M) all n exceed with chance M B(n + 1, M) = 1 / C(n + M, n).
    assert flag_count_p(1000, 1000, 0, 20) == pytest.approx(1 / comb(1020, 20), rel=1e-9)


def test_exact_copies_are_all_flagged() -> None:
    """Under a monotone head a copy scores the bias, which no stranger reaches."""
    bias = 7.0
    holdout = bias - 0.1 - np.random.default_rng(0).exponential(1, 400)
    found = privacy(np.full(60, bias), holdout)
    assert found.flagged == found.fdr_flagged == 60
    assert found.p_value < 1e-12
    assert found.excess_rate.low > 0.8


def test_every_figure_by_hand() -> None:
    holdout = np.arange(100.0)
    synthetic = np.array([200.0, 150.0, 94.5, privacy_threshold(holdout), 10.0, -5.0])
    found = privacy(synthetic, holdout, percentile=95, fdr_rate=0.1)
    assert found.tau == privacy_threshold(holdout) == pytest.approx(94.05)
    assert found.flagged == 3  # the clip that equals tau is not above it
    assert found.flag_rate == wilson(3, 6)
    assert found.excess_rate == share_difference(wilson(3, 6), wilson(5, 100))
    assert found.p_value == flag_count_p(3, 6, 5, 100)
    assert found.fdr_flagged == 4  # the fourth p-value is 6/101, and 0.1 * 4/6 is more
    assert (found.percentile, found.fdr_rate) == (95, 0.1)


def test_rates_reach_their_places() -> None:
    synthetic, holdout = np.array([94.5] * 3), np.arange(100.0)
    assert privacy(synthetic, holdout, percentile=90).flagged == 3
    assert privacy(synthetic, holdout, percentile=99).flagged == 0
    assert privacy(synthetic, holdout, fdr_rate=0.5).fdr_flagged == 3
    assert privacy(synthetic, holdout, fdr_rate=0.01).fdr_flagged == 0


@settings(max_examples=20)
@given(st.permutations(range(8)), st.permutations(range(20)))
def test_order_changes_nothing(of_synthetic: list[int], of_holdout: list[int]) -> None:
    synthetic, holdout = np.linspace(5, 25, 8), np.linspace(0, 20, 20)
    assert privacy(synthetic[of_synthetic], holdout[of_holdout]) == privacy(synthetic, holdout)
