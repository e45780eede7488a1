import time
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.power import minimum_detectable_share, true_positive_rates
from mnemoscope.audit.privacy import flag_count_p
from mnemoscope.audit.threshold import privacy_threshold
from mnemoscope.core.errors import TooFewSamples

HOLDOUT = np.arange(100.0)


def test_rates_by_hand() -> None:
    """Of 100 innocents, 5 exceed 94 and one exceeds 98; the planted score that equals a threshold is not above it."""
    planted = np.array([200.0, 98.5, 98.0, 96.0, 94.0, 1.0])
    found = true_positive_rates(planted, HOLDOUT, tau=97.0)
    assert found["tpr"] == wilson(3, 6)
    assert found["tpr_at_fpr"] == {"0.05": wilson(4, 6), "0.01": wilson(2, 6), "0.001": None}


@given(
    st.lists(st.integers(0, 12), min_size=20, max_size=40),
    st.lists(st.integers(0, 14), min_size=1, max_size=20),
    st.sampled_from([0.5, 0.25, 0.1, 0.05]),
)
def test_the_threshold_is_the_lowest_that_so_few_innocents_exceed(
    holdout: list[int], planted: list[int], fpr: float
) -> None:
    threshold = min(t for t in holdout if sum(h > t for h in holdout) <= fpr * len(holdout) + 1e-9)
    found = true_positive_rates(np.array(planted, float), np.array(holdout, float), tau=0.0, fpr_levels=[fpr])
    assert found["tpr_at_fpr"][f"{fpr:g}"] == wilson(sum(p > threshold for p in planted), len(planted))


@pytest.mark.parametrize(("n", "levels"), [(19, 0), (20, 1), (99, 1), (100, 2), (999, 2), (1000, 3)])
def test_a_level_needs_an_innocent_who_may_exceed_it(n: int, levels: int) -> None:
    found = true_positive_rates(np.ones(3), np.arange(float(n)), tau=0.0)["tpr_at_fpr"]
    assert sum(rate is not None for rate in found.values()) == levels


def test_rates_need_both_sides() -> None:
    with pytest.raises(TooFewSamples):
        true_positive_rates(np.array([]), HOLDOUT, tau=0.0)
    with pytest.raises(TooFewSamples, match="got 0"):
        true_positive_rates(np.ones(3), np.array([]), tau=0.0)


def scanned(n: int, m: int, percentile: float, tpr: float, alpha: float, power: float) -> float | None:
    """Every number of copies in turn, with SciPy's distributions summed over both counts."""
    ranks = np.arange(m, dtype=float)
    tau = float(np.percentile(ranks, percentile))
    above = int((ranks > tau).sum())
    needed = next((c for c in range(1, n + 1) if flag_count_p(c, n, above, m) <= alpha), n + 1)
    for copies in range(1, n + 1):
        chance = sum(
            stats.binom.pmf(j, copies, tpr) * stats.betabinom.sf(needed - j - 1, n - copies, m - tau, tau + 1)
            for j in range(copies + 1)
        )
        if chance >= power - 1e-12:  # the chance may be the power itself, as in the example below
            return copies / n
    return None


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 24),
    innocents=st.sampled_from([(20, 95.0), (21, 95.0), (57, 95.0), (40, 80.0), (9, 50.0)]),
    tpr=st.sampled_from([0.0, 0.3, 0.7, 0.9, 1.0]),
    alpha=st.sampled_from([0.01, 0.1]),
    power=st.sampled_from([0.5, 0.8, 0.95]),
)
@example(n=17, innocents=(9, 50.0), tpr=1.0, alpha=0.01, power=0.5)
def test_it_is_the_smallest_of_all_shares(
    n: int, innocents: tuple[int, float], tpr: float, alpha: float, power: float
) -> None:
    m, percentile = innocents
    found = minimum_detectable_share(
        n_synthetic=n, n_holdout=m, percentile=percentile, tpr=tpr, alpha=alpha, power=power
    )
    assert found == scanned(n, m, percentile, tpr, alpha, power)


def simulated_power(share: float, n: int, m: int, percentile: float, tpr: float, *, rounds: int = 3000) -> float:
    """The whole procedure: a holdout, its tau, copies and innocents, the count, its p-value."""
    rng = np.random.default_rng(5)
    copies, noticed, p_value = round(share * n), 0, cache(flag_count_p)
    for _ in range(rounds):
        holdout = rng.random(m)
        tau = privacy_threshold(holdout, percentile=percentile)
        flags = int((rng.random(n - copies) > tau).sum() + (rng.random(copies) < tpr).sum())
        noticed += p_value(flags, n, int((holdout > tau).sum()), m) <= 0.01
    return noticed / rounds


@pytest.mark.parametrize(
    ("n", "m", "percentile", "tpr"), [(500, 1277, 95.0, 0.9), (1000, 100, 95.0, 0.6), (300, 60, 90.0, 1.0)]
)
def test_at_the_share_found_the_leak_is_noticed_four_times_in_five(
    n: int, m: int, percentile: float, tpr: float
) -> None:
    share = minimum_detectable_share(n_synthetic=n, n_holdout=m, percentile=percentile, tpr=tpr)
    assert share is not None
    assert simulated_power(share, n, m, percentile, tpr) == pytest.approx(0.8, abs=0.04)
    assert simulated_power(0.7 * share, n, m, percentile, tpr) < 0.7


def test_copies_that_are_flagged_no_more_than_innocents_are_never_noticed() -> None:
    for n in (20, 1000, 100_000):
        assert minimum_detectable_share(n_synthetic=n, n_holdout=1277, percentile=95, tpr=0.04) is None


def test_a_set_too_small_to_reject_is_never_noticed() -> None:
    """One clip alone is flagged with 2/21 among innocents, which is no proof."""
    assert minimum_detectable_share(n_synthetic=1, n_holdout=20, percentile=95, tpr=1.0) is None
    assert minimum_detectable_share(n_synthetic=0, n_holdout=20, percentile=95, tpr=1.0) is None


def test_more_of_anything_detects_less() -> None:
    def share(n: int = 1000, m: int = 500, tpr: float = 0.8, alpha: float = 0.01, power: float = 0.8) -> float:
        found = minimum_detectable_share(n_synthetic=n, n_holdout=m, percentile=95, tpr=tpr, alpha=alpha, power=power)
        assert found is not None
        return found

    assert share(n=5000) < share()
    assert share(m=2000) < share()
    assert share(tpr=0.95) < share()
    assert share(alpha=0.05) < share()
    assert share(power=0.5) < share()


def test_a_hundred_thousand_clips_take_no_time() -> None:
    started = time.process_time()
    found = minimum_detectable_share(n_synthetic=100_000, n_holdout=1277, percentile=95, tpr=0.9)
    assert time.process_time() - started < 1.0  # a twenty-fifth of it where nothing else runs
    assert found == pytest.approx(0.0244, abs=0.0005)


def test_an_absurd_percentile_is_refused() -> None:
    with pytest.raises(TooFewSamples, match="--percentile"):
        minimum_detectable_share(n_synthetic=100, n_holdout=19, percentile=95, tpr=1.0)
