import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mnemoscope.audit.intervals import patient_bootstrap, share_difference, wilson
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import Estimate

shares = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shares, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(share: tuple[int, int], confidence: float) -> None:
    successes, trials = share
    found = wilson(successes, trials, confidence=confidence)
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("successes", "centre", "half"), [(850, 0.849, 0.022), (0, 0.002, 0.002)])
def test_wilson_meets_the_reference_values(successes: int, centre: float, half: float) -> None:
    found = wilson(successes, 1000)
    assert (found.low + found.high) / 2 == pytest.approx(centre, abs=5e-4)
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=5e-4)


def test_nothing_seen_is_not_nothing_possible() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high > 0.2
    assert wilson(10, 10).high == 1.0
    assert wilson(10, 10).low < 0.8


def test_wilson_wants_a_trial() -> None:
    with pytest.raises(TooFewSamples, match="at least one trial for a share, got 0"):
        wilson(0, 0)


def test_difference_of_shares_by_hand() -> None:
    """Newcombe 1998, table II, case (a) 56/70 against 48/80: 0.2000, method 10 gives 0.0524 to 0.3339."""
    found = share_difference(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((9, 10), (3, 10), 0.1705, 0.8090), ((5, 56), (0, 29), -0.0381, 0.1926), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_difference_meets_the_published_cases(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = share_difference(wilson(*first), wilson(*second))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(shares, shares)
def test_difference_turns_its_sign_with_the_order(first: tuple[int, int], second: tuple[int, int]) -> None:
    one, other = share_difference(wilson(*first), wilson(*second)), share_difference(wilson(*second), wilson(*first))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def weighted_mean(values: np.ndarray):
    return lambda weight: float(np.average(values, weights=weight))


def test_every_clip_of_a_patient_is_drawn_as_often_as_the_patient() -> None:
    patients = np.array(["b", "a", "b", "c", "a", "b"], dtype=object)
    drawn: list[np.ndarray] = []

    def statistic(weight: np.ndarray) -> float:
        drawn.append(weight)
        return 0.0

    patient_bootstrap(statistic, patients, rng=np.random.default_rng(0), rounds=50)
    plain, *resampled = drawn
    assert plain.tolist() == [1.0] * 6
    for weight in resampled:
        by_patient = {name: set(weight[patients == name]) for name in "abc"}
        assert all(len(values) == 1 for values in by_patient.values())
        assert sum(values.pop() for values in by_patient.values()) == 3
    assert len({tuple(weight) for weight in resampled}) > 5


def test_bootstrap_follows_its_generator_alone() -> None:
    values, patients = np.arange(12.0), np.repeat(np.arange(6), 2)

    def once(seed: int, names: np.ndarray) -> Estimate:
        return patient_bootstrap(weighted_mean(values), names, rng=np.random.default_rng(seed), rounds=100)

    assert once(1, patients) == once(1, patients) == once(1, np.array([f"p{n}" for n in patients]))
    assert once(1, patients) != once(2, patients)


def test_bootstrap_covers_a_planted_mean_although_clips_of_a_patient_agree() -> None:
    """True mean 0, 40 patients of 5 like clips each: an interval that took clips for patients would cover 60 %."""
    covered = narrow = 0
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), 5)
    for _ in range(200):
        values = rng.normal(0, 1, 40)[patients] + rng.normal(0, 0.1, 200)
        by_patient = patient_bootstrap(weighted_mean(values), patients, rng=rng, rounds=120)
        by_clip = patient_bootstrap(weighted_mean(values), np.arange(200), rng=rng, rounds=120)
        covered += by_patient.low <= 0 <= by_patient.high
        narrow += by_clip.low <= 0 <= by_clip.high
    assert 0.89 <= covered / 200 <= 0.98
    assert narrow / 200 < 0.75


def test_resamples_without_a_value_are_left_out() -> None:
    def only_with_the_first(weight: np.ndarray) -> float:
        return float("nan") if weight[0] == 0 else 1.0

    found = patient_bootstrap(only_with_the_first, np.arange(5), rng=np.random.default_rng(0), rounds=100)
    assert found == Estimate(1.0, 1.0, 1.0)
