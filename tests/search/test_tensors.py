"""Heads that are any function of |q − g|: the chunked path against the closed form and against torch itself."""

import numpy as np
import pytest
import torch

from mnemoscope.core.errors import ConfigError, DegenerateValues, Mismatch
from mnemoscope.core.rng import generator
from mnemoscope.search import L1, Blocking, WeightedL1, matrix, nearest, pair_scores, tensors
from mnemoscope.search.metrics import metric_of
from tests.reference import brute_force


def features(n: int, d: int, *, seed: int) -> np.ndarray:
    return generator(seed, "tensors").normal(size=(n, d)).astype(np.float32)


def small_mlp(d: int) -> torch.nn.Module:
    layers = torch.nn.Sequential(torch.nn.Linear(d, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).eval()
    rng = generator(0, "mlp")
    for parameter in layers.parameters():
        parameter.data = torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32))
    return layers


class Weighted:
    def __init__(self, weight: np.ndarray) -> None:
        self.weight = torch.from_numpy(weight)

    def score(self, abs_difference: torch.Tensor) -> torch.Tensor:
        return abs_difference.double() @ self.weight


def test_a_linear_scorer_is_the_weighted_head():
    query, gallery = features(21, 16, seed=0), features(60, 16, seed=1)
    weight = generator(0, "w").normal(size=16)
    similarity, index = brute_force.nearest(query, gallery, WeightedL1(weight, 0.0), k=3)
    for sizes in (None, Blocking(queries=5, gallery=7)):
        found = nearest(query, gallery, Weighted(weight), k=3, blocking=sizes)
        np.testing.assert_array_equal(found.index, index)
        np.testing.assert_allclose(found.similarity, similarity, rtol=1e-5, atol=1e-5)


def test_an_mlp_gives_its_own_scores(monkeypatch):
    query, gallery = features(9, 16, seed=0), features(30, 16, seed=1)
    module = small_mlp(16)
    with torch.no_grad():
        difference = torch.from_numpy(query)[:, None] - torch.from_numpy(gallery)
        truth = module(difference.abs()).squeeze(2).numpy()
    head = tensors.ModuleHead(module)
    monkeypatch.setattr(tensors, "PAIRS_AT_ONCE", 64)
    found = nearest(query, gallery, head, k=2)
    np.testing.assert_array_equal(found.index, np.argsort(-truth, axis=1, kind="stable")[:, :2])
    np.testing.assert_allclose(found.similarity[:, 0], truth.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(matrix(query, gallery, head), truth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pair_scores(query, gallery[:9], head), np.diag(truth), rtol=1e-4, atol=1e-5)


def test_a_scorer_sees_no_more_pairs_than_fit(monkeypatch):
    seen = []

    class Counting(Weighted):
        def score(self, abs_difference: torch.Tensor) -> torch.Tensor:
            seen.append(len(abs_difference))
            return super().score(abs_difference)

    monkeypatch.setattr(tensors, "PAIRS_AT_ONCE", 100)
    nearest(features(50, 4, seed=0), features(40, 4, seed=1), Counting(np.ones(4)))
    assert max(seen) <= 100
    assert sum(seen) == 50 * 40


def test_scorers_that_fail_are_named():
    rows = features(4, 3, seed=0)

    class Wrong(Weighted):
        def score(self, abs_difference: torch.Tensor) -> torch.Tensor:
            return super().score(abs_difference)[:, None]

    with pytest.raises(Mismatch, match=r"found \(16, 1\).*ModuleHead"):
        nearest(rows, rows, Wrong(np.ones(3)))
    with pytest.raises(DegenerateValues, match="NaN or infinite scores"):
        nearest(rows, rows, Weighted(np.array([np.nan, 1.0, 1.0])))


def test_no_pairs_have_no_scores():
    nothing, rows = np.empty((0, 3), np.float32), features(4, 3, seed=0)
    assert nearest(nothing, rows, Weighted(np.ones(3)), k=2).similarity.shape == (0, 2)
    assert matrix(nothing, rows, Weighted(np.ones(3))).shape == (0, 4)
    assert pair_scores(nothing, nothing, Weighted(np.ones(3))).shape == (0,)


def test_a_device_without_float64_is_refused():
    rows = features(4, 3, seed=0)
    with pytest.raises(ConfigError, match="needs float64"):
        tensors.metric_costs(rows, rows, metric_of(L1(), n_features=3), torch.device("mps"))
