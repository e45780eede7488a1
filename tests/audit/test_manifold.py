import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prdc import compute_prdc

from mnemoscope.audit import manifold as module
from mnemoscope.audit.manifold import coverage_expectation, manifold
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Manifold
from tests.reference.recall_oracles import prdc as by_loops

FIGURES = ("precision", "recall", "density", "coverage")


def figures(found: Manifold) -> list[float]:
    return [getattr(found, name) for name in FIGURES]


def two_sets(seed: int, n: int, m: int, d: int, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(50, 71, 3, 5), (7, 6, 1, 1), (300, 120, 16, 3), (33, 90, 2, 4)])
def test_it_agrees_with_prdc(lattice: bool, n: int, m: int, d: int, k: int) -> None:
    """On a lattice most distances tie and many points coincide; there whole numbers keep prdc's sums exact."""
    real, synthetic = (np.round(x) if lattice else x for x in two_sets(n, n, m, d, shift=1.0))
    peer = compute_prdc(real, synthetic, nearest_k=k)
    assert figures(manifold(real, synthetic, k=k)) == pytest.approx([peer[name] for name in FIGURES], abs=1e-12)


@given(st.data())
def test_it_agrees_with_loops_over_pairs(data: st.DataObject) -> None:
    k, d = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    point = st.lists(st.integers(-3, 3).map(float), min_size=d, max_size=d)
    real, synthetic = (data.draw(st.lists(point, min_size=k + 1, max_size=9)) for _ in range(2))
    expected = by_loops(real, synthetic, k)
    found = manifold(np.array(real), np.array(synthetic), k=k)
    assert figures(found) == pytest.approx([expected[name] for name in FIGURES], abs=1e-12)


def test_a_line_by_hand() -> None:
    """Real at 0, 1, 3 with radii 1, 1, 2; synthetic at 0.5, 1, 9 with radii 0.5, 0.5, 8."""
    found = manifold(np.array([[0.0], [1], [3]]), np.array([[0.5], [1], [9]]), k=1)
    assert (found.k, found.n_real, found.n_synthetic) == (1, 3, 3)
    # 0.5 is in the first two balls; 1 in the second alone, being on the edge of the others; 9 in none.
    assert figures(found) == pytest.approx([2 / 3, 2 / 3, 1.0, 2 / 3])


@pytest.mark.parametrize("at_once", [1, 40, 333])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    real, synthetic = two_sets(1, 41, 29, 4)
    whole = manifold(real, synthetic)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
    assert manifold(real, synthetic) == whole


def test_order_and_scale_change_nothing() -> None:
    real, synthetic = two_sets(2, 60, 45, 5)
    shuffled = manifold(real[::-1] * 4, synthetic[np.random.default_rng(0).permutation(45)] * 4)
    assert shuffled == manifold(real, synthetic)


def test_far_clusters_do_not_drown_what_is_near() -> None:
    """At ±10⁷ products of coordinates round by more than the distances that decide."""
    real, synthetic = two_sets(3, 40, 40, 3)
    far = np.repeat([[-1e7], [1e7]], 20, axis=0)
    by_differences = by_loops((real + far).tolist(), (synthetic + far).tolist(), 5)
    found = manifold(real + far, synthetic + far)
    assert figures(found) == pytest.approx([by_differences[name] for name in FIGURES], abs=1e-12)


def test_weights_scale_the_features_first() -> None:
    real, synthetic = two_sets(4, 30, 30, 3)
    weight = np.array([0.5, 0.0, 3.0])
    assert manifold(real, synthetic, weight=weight) == manifold(real * weight, synthetic * weight)
    assert manifold(real, synthetic, weight=weight) == manifold(
        real[:, [0, 2]], synthetic[:, [0, 2]] * 1.0, weight=weight[[0, 2]]
    )


def test_float32_features_are_measured_in_float64() -> None:
    real, synthetic = (x.astype(np.float32) for x in two_sets(5, 40, 40, 3))
    assert manifold(real, synthetic) == manifold(real.astype(np.float64), synthetic.astype(np.float64))


def test_copies_cover_and_noise_does_not() -> None:
    real, _ = two_sets(6, 50, 1, 4)
    assert figures(manifold(real, real.copy())) == pytest.approx([1, 1, manifold(real, real.copy()).density, 1])
    assert figures(manifold(real, real + 1000)) == [0, 0, 0, 0]


def test_expected_coverage_meets_the_reference_value() -> None:
    assert coverage_expectation(10_000, 10_000, k=5) == pytest.approx(0.96877, abs=5e-6)
    assert coverage_expectation(2, 1, k=1) == pytest.approx(1 - 1 / 2)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 400)])
def test_two_sets_of_one_distribution_meet_the_closed_forms(n: int, m: int) -> None:
    found = [manifold(*two_sets(100 + seed, n, m, 2, shift=0.0)) for seed in range(40)]
    assert np.mean([one.coverage for one in found]) == pytest.approx(coverage_expectation(n, m), abs=0.006)
    assert np.mean([one.density for one in found]) == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
def test_ten_thousand_clips_meet_the_reference_value() -> None:
    found = manifold(*two_sets(0, 10_000, 10_000, 2, shift=0.0))
    assert found.coverage == pytest.approx(0.96877, abs=0.006)
    assert found.density == pytest.approx(1.0, abs=0.02)


def test_what_has_no_balls_is_refused() -> None:
    real, synthetic = two_sets(7, 6, 5, 2)
    with pytest.raises(TooFewSamples, match="found k=5, 6 real and 5 synthetic clips; add clips"):
        manifold(real, synthetic)
    with pytest.raises(Mismatch, match="real 2, synthetic 1"):
        manifold(real, synthetic[:, :1], k=1)
    with pytest.raises(Mismatch, match=r"weight \(3,\)"):
        manifold(real, synthetic, k=1, weight=np.ones(3))
    with pytest.raises(DegenerateValues, match="weights must be finite and at least 0"):
        manifold(real, synthetic, k=1, weight=np.array([1.0, -1.0]))
    with pytest.raises(DegenerateValues, match="features must be finite"):
        manifold(real, np.full((5, 2), np.nan), k=1)
