"""Heads refuse what cannot score, and undefined rows are named."""

import numpy as np
import pytest

from mnemoscope.core.errors import DegenerateValues, Mismatch
from mnemoscope.search import Correlation, Cosine, WeightedL1, nearest


def test_weights_are_kept_as_a_read_only_copy():
    weight = np.array([1.0, -1.0], np.float32)
    head = WeightedL1(weight, 0.0)
    weight[0] = 9.0
    np.testing.assert_array_equal(head.weight, [1.0, -1.0])
    with pytest.raises(ValueError, match="read-only"):
        head.weight[0] = 1.0


@pytest.mark.parametrize("weight", [np.ones((1, 3)), np.ones(0)])
def test_weights_must_be_one_vector(weight):
    with pytest.raises(Mismatch, match=r"shape \(D,\).*--reid"):
        WeightedL1(weight, 0.0)


@pytest.mark.parametrize(("weight", "bias"), [([np.nan], 0.0), ([np.inf], 0.0), ([1.0], np.nan)])
def test_weights_and_bias_must_be_finite(weight, bias):
    with pytest.raises(DegenerateValues, match="must be finite"):
        WeightedL1(np.array(weight), bias)


def test_rows_without_direction_are_named():
    rows = np.ones((5, 3), np.float32) * np.float32(0.1)
    rows[:, 0] += np.arange(5, dtype=np.float32)
    with pytest.raises(DegenerateValues, match=r"Correlation needs rows that are not constant, found 1.*row 0.*--head"):
        nearest(rows, rows[1:], Correlation())
    rows[2] = 0.0
    with pytest.raises(DegenerateValues, match=r"Cosine needs rows that are not all zero, found 1.*row 2"):
        nearest(rows[:2], rows, Cosine())
