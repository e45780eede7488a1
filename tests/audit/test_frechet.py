import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from mnemoscope.audit.frechet import frechet_distance
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.rng import generator


def with_moments(mean: list[float], variances: list[float]) -> np.ndarray:
    """2 D rows whose mean and (sample) covariance are exactly these."""
    size = len(mean)
    scale = np.sqrt(np.array(variances) * (2 * size - 1) / 2)
    corners = np.concatenate([np.eye(size), -np.eye(size)])
    return np.array(mean) + corners * scale


def test_commuting_gaussians_have_the_distance_of_the_closed_form() -> None:
    a, b = with_moments([0, 0, 0], [1, 4, 9]), with_moments([1, 2, 0], [4, 4, 1])
    assert frechet_distance(a, b) == pytest.approx(10.0)


@given(st.integers(0, 50), st.integers(1, 6), st.integers(3, 12))
def test_any_two_sets_have_the_distance_of_scipys_matrix_root(seed: int, size: int, rows: int) -> None:
    rng = generator(seed, "frechet")
    a, b = rng.standard_normal((rows + size, size)), 2 * rng.standard_normal((rows + size + 1, size)) + 1
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    apart = a.mean(0) - b.mean(0)
    expected = apart @ apart + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_moving_one_set_adds_the_squared_distance() -> None:
    a = generator(1, "moved").standard_normal((40, 5))
    assert frechet_distance(a, a + np.array([3, 0, 4, 0, 0])) == pytest.approx(25.0)


def test_fewer_rows_than_features_still_give_a_number() -> None:
    a = generator(2, "few").standard_normal((5, 30))
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a + 1) == pytest.approx(30.0)


def test_unfit_sets_are_refused() -> None:
    a = np.zeros((4, 3))
    with pytest.raises(Mismatch, match=r"\(4, 3\) and \(4, 2\)"):
        frechet_distance(a, np.zeros((4, 2)))
    with pytest.raises(TooFewSamples, match="4 and 1"):
        frechet_distance(a, np.zeros((1, 3)))
    with pytest.raises(DegenerateValues, match="NaN"):
        frechet_distance(a, np.full((4, 3), np.nan))
