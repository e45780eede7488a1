from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mnemoscope.audit.labels import LEAST_CLIPS, MOST_POINTS, label_fidelity, mae, r2, shuffle_p
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Estimate, Labels

# Few distinct values, so that ties are the rule.
percents = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 3)),
    min_size=LEAST_CLIPS,
    max_size=41,
).filter(lambda rows: len({row[0] for row in rows}) > 1)


def fidelity(requested: np.ndarray, measured: np.ndarray, *, seed: int = 0, rounds: int = 200) -> Labels:
    return label_fidelity(requested, measured, reader="test", rng=np.random.default_rng(seed), rounds=rounds)


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    requested, measured, weight = np.array(rows, dtype=np.float64).T
    return requested, measured, weight


@settings(max_examples=40)
@given(percents)
def test_both_numbers_are_those_of_scikit_learn(rows) -> None:
    requested, measured, _ = columns(rows)
    found = fidelity(requested, measured, rounds=2).requested_vs_measured
    assert found.n == len(rows)
    assert found.r2.value == pytest.approx(metrics.r2_score(y_true=requested, y_pred=measured))
    assert found.mae.value == pytest.approx(metrics.mean_absolute_error(requested, measured))


@settings(max_examples=40)
@given(percents)
def test_weights_are_those_of_scikit_learn(rows) -> None:
    requested, measured, weight = columns(rows)
    if np.ptp(requested[weight > 0]) if (weight > 0).any() else 0:
        expected = metrics.r2_score(y_true=requested, y_pred=measured, sample_weight=weight)
        assert r2(requested, measured, weight) == pytest.approx(expected)
        assert mae(requested, measured, weight) == pytest.approx(
            metrics.mean_absolute_error(requested, measured, sample_weight=weight)
        )


def test_a_resample_of_one_label_has_no_r2() -> None:
    assert np.isnan(r2(np.array([30.1, 30.1, 60.0]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.0])))


def test_which_side_is_the_truth() -> None:
    """SS_tot is that of the requested: twice as wide readings of 0 … 9 miss by Σ i² = 285 of 82.5."""
    requested = np.arange(10.0)
    assert fidelity(requested, 2 * requested).requested_vs_measured.r2.value == pytest.approx(1 - 285 / 82.5)
    assert fidelity(2 * requested, requested).requested_vs_measured.r2.value == pytest.approx(1 - 285 / 330)


@settings(max_examples=25)
@given(percents, st.randoms(use_true_random=False))
def test_the_order_of_clips_changes_nothing(rows, random) -> None:
    again = random.sample(rows, len(rows))
    first, second = (fidelity(*columns(part)[:2], rounds=2).requested_vs_measured for part in (rows, again))
    assert (first.r2.value, first.mae.value) == pytest.approx((second.r2.value, second.mae.value))


def test_perfect_labels() -> None:
    requested = np.linspace(10, 80, 33)
    found = fidelity(requested, requested)
    assert found.requested_vs_measured.r2 == Estimate(1.0, 1.0, 1.0)
    assert found.requested_vs_measured.mae.high == 0.0
    assert found.p_value == 1 / 201
    assert found.reader == "test"


def test_p_of_every_shuffle_by_trying_all() -> None:
    requested, measured = np.array([10.0, 20.0, 30.0, 40.0]), np.array([12.0, 11.0, 33.0, 39.0])
    orders = [np.array(order) for order in permutations(requested)]
    as_well = sum(((order - measured) ** 2).sum() <= ((requested - measured) ** 2).sum() + 1e-9 for order in orders)
    found = shuffle_p(requested, measured, rng=np.random.default_rng(0), rounds=20_000)
    assert found == pytest.approx(as_well / 24, abs=0.01)


def test_equal_sums_agree_as_well() -> None:
    """Readings that are all the same agree with every order of the labels."""
    assert fidelity(np.arange(11) * 7.3, np.full(11, 55.5)).p_value == 1.0
    two = np.repeat([30.1, 60.7], 6)
    found = shuffle_p(two, two, rng=np.random.default_rng(1), rounds=20_000)
    assert found == pytest.approx(1 / 924, abs=0.001)
    assert found > 3 / 20_001


def test_p_is_uniform_where_labels_mean_nothing() -> None:
    rng = np.random.default_rng(7)
    found = [shuffle_p(rng.uniform(10, 80, 15), rng.uniform(10, 80, 15), rng=rng, rounds=199) for _ in range(400)]
    assert stats.kstest(np.array(found) - rng.uniform(0, 1 / 200, 400), "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_worse_than_chance_is_no_fidelity() -> None:
    """One-sided: labels turned round have a strong relation and the highest p."""
    requested = np.linspace(10, 80, 30)
    found = fidelity(requested, requested[::-1].copy())
    assert found.p_value == 1.0
    assert found.requested_vs_measured.r2.high < -1.5


def interleaved(labels: np.ndarray, n_windows: int) -> np.ndarray:
    """The fault of the released sampler: EF repeated clip by clip, windows stacked window by window."""
    dealt = np.repeat(labels, n_windows)
    return dealt.reshape(n_windows, len(labels)).T


def test_interleaved_labels_are_caught() -> None:
    """At batch 8 and 128 frames 4 of 24 windows carry the EF that was asked for (SCIENCE, fault 1)."""
    assert (interleaved(np.arange(8), 3) == np.arange(8)[:, None]).sum() == 4
    rng = np.random.default_rng(3)
    asked = rng.uniform(15, 75, (12, 8))
    shown = np.concatenate([interleaved(batch, 3) for batch in asked])
    requested = np.repeat(asked.ravel(), 3)
    read = np.clip(shown.ravel() + rng.normal(0, 4, shown.size), 0, 100)
    right = np.clip(requested + rng.normal(0, 4, requested.size), 0, 100)
    assert fidelity(requested, right).requested_vs_measured.r2.low > 0.85
    assert fidelity(requested, read).requested_vs_measured.r2.high < 0.0


def test_the_intervals_hold_the_truth() -> None:
    """Requested uniform over 20 … 80 (variance 300), errors normal of deviation 6: R² = 0.88, MAE = 4.787."""
    rng = np.random.default_rng(11)
    covered = np.zeros(2)
    for _ in range(100):
        requested = rng.uniform(20, 80, 150)
        measured = np.clip(requested + rng.normal(0, 6, 150), 0, 100)
        found = label_fidelity(requested, measured, reader="", rng=rng, rounds=200).requested_vs_measured
        covered += [found.r2.low <= 0.88 <= found.r2.high, found.mae.low <= 4.787 <= found.mae.high]
    assert (covered >= 86).all()
    assert (covered <= 99).all()


def test_clips_without_a_number_are_left_out() -> None:
    requested, measured = np.linspace(10, 80, 14), np.linspace(12, 79, 14)
    with_holes = np.insert(requested, [0, 5], np.nan), np.insert(measured, [0, 5], 50.0)
    assert fidelity(*with_holes) == fidelity(requested, measured)
    measured[3] = np.nan
    assert fidelity(requested, measured).requested_vs_measured.n == 13


def test_the_numbers_themselves_are_kept_of_clips_that_have_both_up_to_a_limit() -> None:
    requested, measured = np.linspace(10, 90, 12), np.linspace(20, 70, 12)
    measured[3] = np.nan
    both = [(round(x, 1), round(y, 1)) for x, y in zip(requested, measured, strict=True) if y == y]
    assert [tuple(point) for point in fidelity(requested, measured, rounds=2).points] == both
    many = fidelity(np.linspace(0, 100, 2 * MOST_POINTS + 1), np.full(2 * MOST_POINTS + 1, 50.0), rounds=2).points
    assert len(many) <= MOST_POINTS
    assert many[0] == [0.0, 50.0]


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_clips_are_refused(n: int) -> None:
    requested = np.r_[np.linspace(10, 80, n), np.nan]
    with pytest.raises(TooFewSamples, match=f"at least 10 clips .* got {n} of {n + 1}; .*--synthetic"):
        fidelity(requested, requested)


def test_values_that_are_no_percentages_are_refused() -> None:
    requested, measured = np.linspace(0, 100, 20), np.linspace(0, 100, 20)
    assert fidelity(requested, measured).requested_vs_measured.n == 20
    requested[3], measured[[5, 7]] = 100.5, [-0.1, np.inf]
    with pytest.raises(DegenerateValues, match="found 1 requested and 2 measured values outside it, of 20 clips"):
        fidelity(requested, measured)


def test_one_label_for_all_is_refused() -> None:
    with pytest.raises(DegenerateValues, match=r"all 12 have 55 %; generate over a range"):
        fidelity(np.full(12, 55.0), np.linspace(40, 60, 12))


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(Mismatch, match=r"shapes \(12,\) and \(11,\); .*measured="):
        fidelity(np.arange(12.0), np.arange(11.0))


def test_it_follows_its_generator_alone() -> None:
    rng = np.random.default_rng(2)
    requested, measured = rng.uniform(10, 80, 20), rng.uniform(10, 80, 20)
    assert fidelity(requested, measured, seed=4) == fidelity(requested, measured, seed=4)
    assert fidelity(requested, measured, seed=4) != fidelity(requested, measured, seed=5)
