"""The contract of the search: exact, ordered, and the same for every block size, thread count and query order."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError, DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.search import L1, L2, Blocking, Correlation, Cosine, WeightedL1, matrix, nearest, pair_scores
from mnemoscope.search.metrics import metric_of
from tests.reference import brute_force

# "cpu" is the compiled search, "cpu:0" the torch search on the same processor.
DEVICES = ("cpu", "cpu:0")


def random_features(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return generator(seed, "features", n, d).normal(size=(n, d)).astype(np.float32)


def every_head(d: int) -> list:
    free = generator(0, "weights", d).normal(size=d)
    return [WeightedL1(free, 1.5), WeightedL1(-np.abs(free), -2.0), L1(), L2(), Cosine(), Correlation()]


def assert_same(found, expected):
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


@st.composite
def grid_problem(draw):
    """Small integers and quarters: every sum is exact in float64, so ties are true ties and indices must agree."""
    n, m, d = draw(st.integers(0, 9)), draw(st.integers(1, 70)), draw(st.integers(1, 33))
    rng = generator(draw(st.integers(0, 2**32)), "grid")
    values = draw(st.sampled_from([1, 3, 1000]))
    query, gallery = (rng.integers(-values, values + 1, (rows, d)).astype(np.float32) for rows in (n, m))
    weight = rng.integers(-4, 5, d) / 4.0
    return query, gallery, WeightedL1(weight, 0.25), draw(st.integers(1, min(m, 5)))


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=60)
@given(problem=grid_problem())
def test_ties_and_values_are_those_of_brute_force(device, problem):
    query, gallery, weighted, k = problem
    for head in (weighted, L1(), L2()):
        similarity, index = brute_force.nearest(query, gallery, head, k=k)
        found = nearest(query, gallery, head, k=k, device=device, threads=2)
        np.testing.assert_array_equal(found.index, index)
        np.testing.assert_allclose(found.similarity, similarity, rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize(("n", "m", "d"), [(0, 9, 3), (1, 7, 2), (17, 1000, 128), (33, 257, 65)])
def test_every_head_agrees_with_brute_force(device, k, n, m, d):
    query, gallery = random_features(n, d), random_features(m, d, seed=1)
    heads = every_head(d) if d > 2 else every_head(d)[:-1]
    for head in heads:
        similarity, index = brute_force.nearest(query, gallery, head, k=k)
        found = nearest(query, gallery, head, k=k, device=device)
        assert found.index.dtype == np.int64
        assert found.similarity.dtype == np.float32
        assert found.index.shape == (n, k)
        np.testing.assert_array_equal(found.index, index, err_msg=str(head))
        np.testing.assert_allclose(found.similarity, similarity, rtol=1e-6, atol=1e-7, err_msg=str(head))


@pytest.mark.parametrize("device", DEVICES)
def test_blocks_threads_and_query_order_change_nothing(device):
    query, gallery = random_features(20, 40), random_features(150, 40, seed=1)
    gallery[100:110] = gallery[:10]
    shuffled = generator(0, "order").permutation(20)
    for head in every_head(40):
        whole = nearest(query, gallery, head, k=4, threads=1, device=device)
        for sizes in (
            Blocking(queries=1, gallery=3),
            Blocking(queries=7, gallery=64),
            Blocking(queries=50, gallery=299),
        ):
            assert_same(nearest(query, gallery, head, k=4, blocking=sizes, threads=3, device=device), whole)
        mixed = nearest(query[shuffled], gallery, head, k=4, device=device)
        np.testing.assert_array_equal(mixed.index, whole.index[shuffled])
        np.testing.assert_array_equal(mixed.similarity, whole.similarity[shuffled])


@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_scores_exactly_the_bias_under_a_monotone_head(device):
    gallery = random_features(500, 128)
    gallery[400] = gallery[123]
    head = WeightedL1(-generator(0, "weights").random(128), 3.25)
    found = nearest(gallery[[400, 123, 7]], gallery, head, device=device)
    np.testing.assert_array_equal(found.index[:, 0], [123, 123, 7])
    np.testing.assert_array_equal(found.similarity, np.float32(3.25))


@pytest.mark.parametrize(("head", "of_a_copy"), [(L1(), 0.0), (L2(), 0.0), (Cosine(), 1.0), (Correlation(), 1.0)])
@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_scores_exactly_the_maximum(device, head, of_a_copy):
    gallery = random_features(300, 31) * np.float32(1e-3) + np.float32(100)
    found = nearest(gallery, gallery, head, device=device)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(300))
    np.testing.assert_array_equal(found.similarity, np.float32(of_a_copy))


def test_with_free_signs_a_stranger_can_beat_a_copy():
    gallery = np.array([[0.0, 0.0], [5.0, 0.0]], np.float32)
    found = nearest(gallery[:1], gallery, WeightedL1(np.array([1.0, -1.0]), 0.0), k=2)
    np.testing.assert_array_equal(found.index, [[1, 0]])
    np.testing.assert_array_equal(found.similarity, [[5.0, 0.0]])


@pytest.mark.parametrize("head", [L1(), L2(), WeightedL1(np.zeros(5), 1.0)], ids=["l1", "l2", "zero weights"])
@pytest.mark.parametrize("device", DEVICES)
def test_equal_rows_come_in_gallery_order(device, head):
    found = nearest(np.ones((3, 5), np.float32), np.ones((100, 5), np.float32), head, k=6, device=device)
    np.testing.assert_array_equal(found.index, np.tile(np.arange(6), (3, 1)))


@pytest.mark.parametrize("head", [L1(), L2(), WeightedL1(np.tile([1.0, -2.0, 1e-3, -300.0], 4), 0.0)])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_outliers_cost_time_but_no_exactness(head, scale):
    query, gallery = random_features(40, 16), random_features(400, 16, seed=1)
    query[3] *= 1e15
    gallery[5] *= 1e12
    gallery[:, 7] *= 1e6
    query, gallery = (query * scale).astype(np.float32), (gallery * scale).astype(np.float32)
    similarity, index = brute_force.nearest(query, gallery, head, k=3)
    found = nearest(query, gallery, head, k=3)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.similarity, similarity, rtol=1e-6)


def test_near_ties_below_one_coding_step_are_decided_in_float64():
    base = random_features(1, 64)
    gallery = base + generator(0, "near").normal(size=(2000, 64)).astype(np.float32) * np.float32(1e-4)
    gallery[-1] += np.float32(50)
    for head in every_head(64):
        np.testing.assert_array_equal(
            nearest(base, gallery, head, k=20).index, brute_force.nearest(base, gallery, head, k=20)[1]
        )


def test_faiss_finds_the_same_neighbours():
    query, gallery = random_features(200, 64), random_features(3000, 64, seed=1)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    indexes = {L1(): faiss.METRIC_L1, L2(): faiss.METRIC_L2, Cosine(): faiss.METRIC_INNER_PRODUCT}
    for head, kind in indexes.items():
        q, g = unit if head == Cosine() else (query, gallery)
        peer = faiss.IndexFlat(64, kind)
        peer.add(g)
        np.testing.assert_array_equal(nearest(query, gallery, head, k=3).index, peer.search(q, 3)[1])


def test_pairs_and_matrix_are_entries_of_brute_force():
    query, gallery = random_features(23, 37), random_features(31, 37, seed=1)
    for head in every_head(37):
        truth = brute_force.similarities(query, gallery, head)
        np.testing.assert_allclose(matrix(query, gallery, head), truth, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(pair_scores(query, gallery[:23], head), np.diag(truth), rtol=1e-6, atol=1e-7)
        found = nearest(query, gallery, head, k=2)
        again = pair_scores(np.repeat(query, 2, axis=0), gallery[found.index.ravel()], head)
        np.testing.assert_array_equal(again, found.similarity.ravel())


def test_read_only_and_strided_features_are_taken_as_they_are():
    query, gallery = random_features(20, 12)[::2, ::2], random_features(90, 12, seed=1)[::3, ::2]
    expected = nearest(query.copy(), gallery.copy(), L1(), k=2)
    query.setflags(write=False)
    assert_same(nearest(query, gallery, L1(), k=2), expected)


def test_no_queries_give_no_neighbours():
    nothing = np.empty((0, 4), np.float32)
    assert nearest(nothing, random_features(5, 4), L2(), k=2).index.shape == (0, 2)
    assert pair_scores(nothing, nothing, L1()).shape == (0,)
    assert matrix(nothing, random_features(5, 4), Cosine()).shape == (0, 5)


def test_bad_features_are_named():
    good, bad = random_features(6, 4), random_features(6, 4)
    bad[4, 1] = np.nan
    with pytest.raises(DegenerateValues, match=r"gallery features must be finite.*row 4.*--reid"):
        nearest(good, bad, L1())
    bad[4, 1] = np.inf
    with pytest.raises(DegenerateValues, match="query features"):
        nearest(bad, good, L1())
    with pytest.raises(Mismatch, match="found 4 and 3"):
        nearest(good, good[:, :3], L1())
    with pytest.raises(Mismatch, match=r"float32.*found float64"):
        nearest(good.astype(np.float64), good, L1())
    with pytest.raises(Mismatch, match=r"shape \(clips, D\)"):
        nearest(good[0], good, L1())
    with pytest.raises(Mismatch, match="6 and 5"):
        pair_scores(good, good[:5], L1())


def test_bad_calls_are_named():
    good = random_features(6, 4)
    with pytest.raises(TooFewSamples, match=r"7 neighbours.*found 6.*--k"):
        nearest(good, good, L1(), k=7)
    with pytest.raises(TooFewSamples, match="found 0"):
        nearest(good, good[:0], L1())
    with pytest.raises(ConfigError, match="k=0"):
        nearest(good, good, L1(), k=0)
    with pytest.raises(ConfigError, match="threads=0"):
        nearest(good, good, L1(), threads=0)
    with pytest.raises(ConfigError, match="queries=0"):
        Blocking(queries=0)
    with pytest.raises(ConfigError, match=r"device 'abacus'.*--device cpu"):
        nearest(good, good, L1(), device="abacus")
    with pytest.raises(ConfigError, match=r"one of WeightedL1, .*found str.*--head"):
        metric_of("l1", n_features=4)
    with pytest.raises(Mismatch, match=r"3 weights but the features have 4"):
        nearest(good, good, WeightedL1(np.ones(3), 0.0))
