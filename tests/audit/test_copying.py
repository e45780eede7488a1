import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from mnemoscope.audit.copying import (
    assign,
    authenticity,
    data_copying_test,
    nearer_to_train,
    partition,
)
from mnemoscope.audit.intervals import wilson
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import NearerToTrain


def nearest(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance = cdist(query, gallery)
    return -distance.min(axis=1), distance.argmin(axis=1)


def compared(
    synthetic: np.ndarray, train: np.ndarray, holdout: np.ndarray, *, seed: int = 0, rounds: int = 999
) -> NearerToTrain:
    (to_train, nearest_train), (to_holdout, nearest_holdout) = nearest(synthetic, train), nearest(synthetic, holdout)
    return nearer_to_train(
        to_train,
        to_holdout,
        nearest_train=nearest_train,
        nearest_holdout=nearest_holdout,
        n_train=len(train),
        n_holdout=len(holdout),
        rng=np.random.default_rng(seed),
        rounds=rounds,
    )


def by_hand(to_train: list[float], to_holdout: list[float], *, rounds: int = 4000) -> NearerToTrain:
    """Four train clips of which the first takes everything, and two holdout clips."""
    nobody = np.zeros(len(to_train), dtype=int)
    return nearer_to_train(
        np.array(to_train),
        np.array(to_holdout),
        nearest_train=nobody,
        nearest_holdout=nobody,
        n_train=4,
        n_holdout=2,
        rng=np.random.default_rng(0),
        rounds=rounds,
    )


def test_a_tie_counts_one_half() -> None:
    found = by_hand([3.0, 2.0, 1.0, 1.0], [2.0, 2.0, 2.0, 0.0])
    assert found.share.value == 2.5 / 4
    assert (found.share.low, found.share.high) == (wilson(2, 4).low, wilson(3, 4).high)
    assert found.null_share == pytest.approx(4 / 6)


def test_the_share_of_the_paper_s_sets() -> None:
    """SCIENCE, section 4: 85.4 % and not 50 %."""
    zero = np.zeros(3, dtype=int)
    found = nearer_to_train(
        np.ones(3),
        np.zeros(3),
        nearest_train=zero,
        nearest_holdout=zero,
        n_train=7465,
        n_holdout=1277,
        rng=np.random.default_rng(0),
        rounds=9,
    )
    assert found.null_share == pytest.approx(0.854, abs=0.0005)
    assert found.share == wilson(3, 3)


def test_relabelling_by_hand() -> None:
    """One clip takes all hits, so they are train's whenever that clip is called train: four times in six."""
    assert by_hand([1.0] * 50, [0.0] * 50).p_value == pytest.approx(4 / 6, abs=0.03)
    # Two of six clips take a hit each; both are called train with 4/6 · 3/5.
    assert by_hand([1.0, 0.0], [0.0, 1.0]).p_value == pytest.approx(1 - (2 / 6) * (1 / 5), abs=0.02)


def test_hits_spread_evenly_follow_the_hypergeometric_distribution() -> None:
    """Ten queries with a nearest of their own: train takes as many as it has of ten drawn among 40."""
    order = np.arange(10)
    win = np.array([1.0] * 9 + [-1.0])
    found = nearer_to_train(
        win,
        -win,
        nearest_train=order,
        nearest_holdout=order,
        n_train=25,
        n_holdout=15,
        rng=np.random.default_rng(0),
        rounds=20_000,
    )
    expected = stats.hypergeom.sf(8, 40, 10, 25)
    assert found.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))


def test_false_alarms_come_at_their_rate_where_a_binomial_would_raise_many() -> None:
    """64 dimensions have hubs: which side they fall on is chance, and all queries share it."""
    rng = np.random.default_rng(1)
    p, binomial = [], []
    for seed in range(300):
        train, holdout, synthetic = (rng.normal(size=(n, 64)) for n in (80, 20, 300))
        found = compared(synthetic, train, holdout, seed=seed)
        p.append(found.p_value)
        binomial.append(stats.binom.sf(round(found.share.value * 300) - 1, 300, found.null_share))
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08
    assert np.mean(np.array(p) <= 0.01) <= 0.03
    assert np.mean(np.array(binomial) <= 0.05) > 0.2


def test_copies_lie_nearer_to_train() -> None:
    rng = np.random.default_rng(2)
    train, holdout = rng.normal(size=(80, 16)), rng.normal(size=(40, 16))
    found = compared(train + 0.01 * rng.normal(size=train.shape), train, holdout)
    assert found.share.value == 1.0
    assert found.p_value == 1 / 1000


@given(st.permutations(range(12)))
def test_order_of_the_queries_changes_nothing(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    train, holdout, synthetic = (rng.normal(size=(n, 3)) for n in (9, 5, 12))
    assert compared(synthetic[order], train, holdout, rounds=50) == compared(synthetic, train, holdout, rounds=50)


def test_no_synthetic_clip_has_no_share() -> None:
    with pytest.raises(TooFewSamples):
        by_hand([], [], rounds=3)


def test_one_cell_is_scipy_s_mann_whitney_with_ties() -> None:
    rng = np.random.default_rng(4)
    synthetic, holdout = rng.integers(0, 9, 57).astype(float), rng.integers(1, 9, 31).astype(float)
    found = data_copying_test(synthetic, holdout, np.zeros(57, int), np.zeros(31, int), least=1)
    expected = stats.mannwhitneyu(-synthetic, -holdout, alternative="less", method="asymptotic", use_continuity=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.z == pytest.approx(stats.norm.ppf(expected.pvalue), rel=1e-9)
    assert found.cells == 1


def test_cells_weigh_as_much_as_their_holdout_clips() -> None:
    rng = np.random.default_rng(5)
    synthetic, holdout = rng.normal(size=90), rng.normal(size=60)
    of_synthetic, of_holdout = np.repeat([0, 1, 2], [50, 30, 10]), np.repeat([0, 1, 3], [20, 30, 10])
    z = [
        data_copying_test(
            synthetic[of_synthetic == c], holdout[of_holdout == c], zeros(of_synthetic, c), zeros(of_holdout, c)
        ).z
        for c in (0, 1)
    ]
    found = data_copying_test(synthetic, holdout, of_synthetic, of_holdout)
    assert found.cells == 2
    assert found.z == pytest.approx(0.4 * z[0] + 0.6 * z[1])
    assert found.p_value == pytest.approx(stats.norm.cdf(found.z / np.hypot(0.4, 0.6)))


def zeros(cell: np.ndarray, number: int) -> np.ndarray:
    return np.zeros((cell == number).sum(), dtype=int)


def test_copies_are_negative_and_strangers_positive() -> None:
    rng = np.random.default_rng(6)
    cells = np.zeros(100, int)
    copying = data_copying_test(rng.normal(1, 1, 100), rng.normal(0, 1, 100), cells, cells)
    strange = data_copying_test(rng.normal(-1, 1, 100), rng.normal(0, 1, 100), cells, cells)
    assert copying.z < -4
    assert copying.p_value < 1e-4
    assert strange.z > 4
    assert strange.p_value > 0.999


def test_innocents_are_called_copies_no_more_often_than_said() -> None:
    """Cells that differ in their scale, ties included: the p-value is uniform."""
    rng, p = np.random.default_rng(7), []
    for _ in range(1500):
        cell_s, cell_h = rng.integers(0, 3, 150), rng.integers(0, 3, 90)
        synthetic, holdout = (np.round(rng.normal(5 * c, 1 + c), 1) for c in (cell_s, cell_h))
        p.append(data_copying_test(synthetic, holdout, cell_s, cell_h, least=5).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_cell_too_small_is_left_out_and_none_is_refused() -> None:
    rng = np.random.default_rng(8)
    synthetic, holdout = rng.normal(size=40), rng.normal(size=25)
    cell_s, cell_h = np.repeat([0, 1], [35, 5]), np.repeat([0, 1], [20, 5])
    assert data_copying_test(synthetic, holdout, cell_s, cell_h, least=20).cells == 1
    assert data_copying_test(synthetic, holdout, cell_s, cell_h, least=5).cells == 2
    with pytest.raises(TooFewSamples, match=r"at least 21 .* among 40 and 25 clips; .*n_cells="):
        data_copying_test(synthetic, holdout, cell_s, cell_h, least=21)
    with pytest.raises(TooFewSamples, match="more than one similarity"):
        data_copying_test(np.ones(40), np.ones(25), cell_s, cell_h, least=5)


@settings(max_examples=30)
@given(st.permutations(range(30)), st.sampled_from([0.5, 2.0, 1000.0]))
def test_order_and_scale_change_nothing(order: list[int], factor: float) -> None:
    rng = np.random.default_rng(9)
    synthetic, holdout, cell = rng.normal(size=30), rng.normal(size=30), np.repeat([0, 1], 15)
    plain = data_copying_test(synthetic, holdout, cell, cell, least=5)
    changed = data_copying_test(factor * synthetic[order], factor * holdout, cell[order], cell, least=5)
    assert (changed.z, changed.p_value) == pytest.approx((plain.z, plain.p_value))


def test_partition_finds_planted_groups_and_follows_its_generator() -> None:
    rng = np.random.default_rng(10)
    groups = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    of_row = rng.integers(0, 3, 300)
    features = (groups[of_row] + rng.normal(size=(300, 2))).astype(np.float32)
    centres = partition(features, n_cells=3, rng=np.random.default_rng(1))
    cell = assign(features, centres)
    assert centres.dtype == np.float64
    assert all(len(np.unique(cell[of_row == group])) == 1 for group in range(3))
    assert len(np.unique(cell)) == 3
    assert np.array_equal(centres, partition(features, n_cells=3, rng=np.random.default_rng(1)))


def test_partition_needs_as_many_different_clips() -> None:
    features = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    assert sorted(partition(features, n_cells=3, rng=np.random.default_rng(0))) == [[0], [1], [5]]
    with pytest.raises(TooFewSamples, match=r"4 cells .* got 3; .*n_cells="):
        partition(features, n_cells=4, rng=np.random.default_rng(0))


@given(st.integers(0, 40), st.integers(1, 7), st.integers(1, 6))
def test_assign_is_the_nearest_centre(n: int, k: int, d: int) -> None:
    rng = np.random.default_rng([n, k, d])
    features, centres = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(k, d))
    expected = cdist(features.astype(np.float64), centres).argmin(axis=1) if n else np.zeros(0, int)
    assert np.array_equal(assign(features, centres), expected)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    features, centres = rng.normal(size=(37, 4)), rng.normal(size=(5, 4))
    whole = assign(features, centres)
    monkeypatch.setattr("mnemoscope.audit.copying.CHUNK_ROWS", 5)
    assert np.array_equal(assign(features, centres), whole)


def auth(synthetic: np.ndarray, train: np.ndarray) -> float:
    between = cdist(train, train)
    np.fill_diagonal(between, np.inf)
    return authenticity(*nearest(synthetic, train), -between.min(axis=1)).value


def test_authenticity_of_the_train_set_s_own_distribution() -> None:
    """SCIENCE, section 4: 58 % at N = 700, d = 8, one draw; 50 % would be ten standard errors away."""
    rng = np.random.default_rng(12)
    found = [auth(rng.normal(size=(700, 8)), rng.normal(size=(700, 8))) for _ in range(30)]
    assert abs(np.mean(found) - 0.58) < np.std(found) < 0.03
    assert np.mean(found) > 0.5 + 10 * np.std(found) / np.sqrt(30)


def test_copies_are_not_authentic_and_strangers_are() -> None:
    rng = np.random.default_rng(13)
    train = rng.normal(size=(60, 4))
    assert auth(train[:30], train) == 0.0
    assert auth(train[:30] + 100.0, train) == 1.0


def test_authenticity_by_hand() -> None:
    """Train clips at 0, 1 and 5; the synthetic clip at 2 is as far from 1 as 1 is from 0."""
    train = np.array([[0.0], [1.0], [5.0]])
    assert auth(np.array([[2.0]]), train) == 0.0
    assert auth(np.array([[2.1], [5.5], [0.2], [11.0]]), train) == 0.5
    assert authenticity(np.array([-1.1]), np.array([1]), np.array([-1.0, -1.0, -4.0])) == wilson(1, 1)
