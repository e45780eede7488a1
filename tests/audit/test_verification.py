import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mnemoscope.audit.verification import (
    PairScores,
    auc,
    auc_by_patient,
    decisions,
    tpr_at_fpr,
)
from mnemoscope.core.errors import TooFewSamples

# Few distinct values, so that ties are the rule.
few = st.integers(-3, 3).map(float)
kinds = st.tuples(st.lists(few, min_size=1, max_size=25), st.lists(few, min_size=1, max_size=25)).map(
    lambda pair: (np.array(pair[0]), np.array(pair[1]))
)
Kinds = tuple[np.ndarray, np.ndarray]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pairs_of(same: np.ndarray, different: np.ndarray, *, n_patients: int = 4) -> PairScores:
    patients = [np.arange(len(scores)) % n_patients for scores in (same, different)]
    return PairScores(same, patients[0], different, patients[1])


def truth(same: np.ndarray, different: np.ndarray) -> Kinds:
    return np.r_[np.ones(len(same)), np.zeros(len(different))], np.r_[same, different]


@settings(max_examples=40)
@given(kinds)
def test_auc_agrees_with_scikit_learn(scores: Kinds) -> None:
    assert auc(*scores) == pytest.approx(metrics.roc_auc_score(*truth(*scores)))
    pairs = pairs_of(*scores)
    assert auc_by_patient(pairs, rng=rng(), rounds=2).value == pytest.approx(auc(*scores))


@settings(max_examples=40)
@given(kinds, st.floats(0.01, 100), st.floats(-10, 10))
def test_auc_sees_the_order_alone(scores: Kinds, factor: float, shift: float) -> None:
    same, different = scores
    assert auc(same * factor + shift, different * factor + shift) == pytest.approx(auc(same, different))
    assert auc(different, same) == pytest.approx(1 - auc(same, different))


def test_auc_by_hand() -> None:
    assert auc(np.array([2.0, 0.0]), np.array([1.0, 0.0])) == (1 + 1 + 0 + 0.5) / 4
    assert auc(np.array([1.0]), np.array([0.0])) == 1.0


class ThePatients:
    """A generator whose resamples are given: how often each patient is drawn."""

    def __init__(self, *draws: list[int]) -> None:
        self.draws = np.array(draws)

    def multinomial(self, n: int, share: np.ndarray, size: int) -> np.ndarray:
        assert (n, len(share), size) == (self.draws.shape[1], self.draws.shape[1], len(self.draws))
        return self.draws


@settings(max_examples=40)
@given(kinds, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_patient_drawn_thrice_counts_as_his_pairs_repeated(scores: Kinds, draw: list[int]) -> None:
    pairs = pairs_of(*scores)
    names = sorted({*pairs.same_patient, *pairs.different_patient})
    same = np.repeat(pairs.same, [draw[p] for p in pairs.same_patient])
    different = np.repeat(pairs.different, [draw[p] for p in pairs.different_patient])
    assume(len(same) > 0)
    assume(len(different) > 0)
    given_draw = ThePatients(draw[: len(names)], draw[: len(names)])
    estimate = auc_by_patient(pairs, rng=given_draw, rounds=2)
    repeated = metrics.roc_auc_score(*truth(same, different))
    plain = metrics.roc_auc_score(*truth(*scores))
    assert (estimate.low, estimate.high) == pytest.approx((min(repeated, plain), max(repeated, plain)))


def brute_tpr(same: np.ndarray, different: np.ndarray, fpr: float) -> float:
    """Every score is tried as a threshold; the lowest of those that keep the rate wins."""
    kept = [t for t in {*same, *different} if (different > t).sum() <= fpr * len(different) + 1e-12]
    return float((same > min(kept)).mean())


@settings(max_examples=40)
@given(kinds, st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 0.75]))
def test_tpr_at_fpr_agrees_with_trying_every_threshold(scores: Kinds, fpr: float) -> None:
    assume(len(scores[1]) * fpr >= 1)
    found = tpr_at_fpr(pairs_of(*scores), fpr, rng=rng(), rounds=2)
    assert found.value == pytest.approx(brute_tpr(*scores, fpr))


@settings(max_examples=40)
@given(kinds, st.lists(st.integers(0, 3), min_size=4, max_size=4), st.sampled_from([0.1, 0.25, 0.5]))
def test_tpr_of_a_resample_is_that_of_repeated_pairs(scores: Kinds, draw: list[int], fpr: float) -> None:
    pairs = pairs_of(*scores)
    names = sorted({*pairs.same_patient, *pairs.different_patient})
    same = np.repeat(pairs.same, [draw[p] for p in pairs.same_patient])
    different = np.repeat(pairs.different, [draw[p] for p in pairs.different_patient])
    assume(len(same) > 0)
    assume(len(different) > 0)
    assume(len(pairs.different) * fpr >= 1)
    estimate = tpr_at_fpr(pairs, fpr, rng=ThePatients(draw[: len(names)]), rounds=1)
    both = sorted([brute_tpr(same, different, fpr), brute_tpr(*scores, fpr)])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(both))


def test_a_rate_that_the_pairs_cannot_resolve_is_refused() -> None:
    pairs = pairs_of(np.ones(5), np.zeros(99))
    with pytest.raises(TooFewSamples, match=r"rate of 0\.01 needs at least 100 different-patient pairs, got 99"):
        tpr_at_fpr(pairs, 0.01, rng=rng())


@settings(max_examples=40)
@given(kinds, few)
def test_decisions_agree_with_scikit_learn(scores: Kinds, threshold: float) -> None:
    is_same, score = truth(*scores)
    said = score > threshold
    found = decisions(*scores, threshold=threshold)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(is_same, said))
    assert found.f1 == pytest.approx(metrics.f1_score(is_same, said, zero_division=0))
    assert found.precision == pytest.approx(metrics.precision_score(is_same, said, zero_division=0))
    assert found.recall == pytest.approx(metrics.recall_score(is_same, said, zero_division=0))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(is_same, said, labels=[0, 1]))


def test_the_default_threshold_is_a_probability_of_one_half() -> None:
    found = decisions(np.array([0.1, 0.0, -0.1]), np.array([0.1, -0.1]))
    assert found.confusion == ((1, 1), (2, 1))


def test_pairs_of_one_kind_are_no_verification() -> None:
    with pytest.raises(TooFewSamples, match="found 3 and 0; add holdout patients"):
        pairs_of(np.ones(3), np.zeros(0))


def test_the_interval_of_auc_holds_the_truth() -> None:
    """Normal scores one standard deviation apart: AUC is Phi(1 / sqrt 2) = 0.7602."""
    covered, draw = 0, np.random.default_rng(5)
    for _ in range(100):
        pairs = pairs_of(draw.normal(1, 1, 80), draw.normal(0, 1, 200), n_patients=40)
        found = auc_by_patient(pairs, rng=draw, rounds=200)
        covered += found.low <= 0.7602 <= found.high
    assert 88 <= covered <= 99
