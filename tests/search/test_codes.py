"""Byte codes: their error bound must hold for every pair, and a few wild rows must not coarsen the step."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.rng import generator
from mnemoscope.search.codes import LARGEST_BYTE, plan_code
from mnemoscope.search.kernels import encode
from mnemoscope.search.sad import GROUP


def coded(rows, code):
    groups = code.order.size // GROUP
    out = np.zeros((len(rows), groups, GROUP), np.uint8)
    error = np.array([encode(row, code, place) for row, place in zip(rows, out, strict=True)])
    return out.astype(np.int64), error


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 2**32), d=st.integers(1, 30), spread=st.sampled_from([1e-20, 1.0, 1e9]), wild=st.booleans())
def test_the_stated_error_bounds_the_cost(seed, d, spread, wild):
    rng = generator(seed, "codes")
    a, b = ((rng.normal(size=(6, d)) * spread).astype(np.float32) for _ in range(2))
    a[0] *= 1e6 if wild else 1.0
    weight = rng.normal(size=d) * rng.integers(0, 2, d) * 10.0 ** rng.integers(-3, 4, d)
    code = plan_code(a[1:], b, weight)
    (u, u_error), (v, v_error) = coded(a, code), coded(b, code)
    signs = np.where(np.arange(u.shape[1]) < code.groups_add, 1, -1)
    approximate = code.unit * (np.abs(u[:, None] - v[None]).sum(axis=3) @ signs)
    exact = np.abs(a[:, None].astype(np.float64) - b[None]) @ weight
    assert (np.abs(approximate - exact) <= code.unit * (u_error[:, None] + v_error[None])).all()


def test_features_are_grouped_by_the_sign_of_their_weight_and_zeros_left_out():
    code = plan_code(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), np.array([-1.0, 2.0, 0.0, -3.0]))
    np.testing.assert_array_equal(code.order[code.order >= 0], [1, 0, 3])
    np.testing.assert_array_equal(code.order[:GROUP], [1] + [-1] * 7)
    assert code.groups_add == 1


def test_the_step_spans_the_widest_feature():
    rows = np.array([[0.0, 0.0], [1.0, 10.0]], np.float32)
    code = plan_code(rows, rows, np.array([1.0, 2.0]))
    np.testing.assert_allclose(code.unit, 20.0 / 255.0)


def test_a_wide_feature_takes_several_bytes_that_add_up():
    rows = generator(0, "wide").random((300, 9)).astype(np.float32)
    weight = np.append(np.ones(8), 3.0)
    code = plan_code(rows, rows, weight)
    assert (code.order == 8).sum() == 2
    np.testing.assert_allclose(code.unit * LARGEST_BYTE, 3.0 / 2, rtol=0.02)
    codes, error = coded(rows, code)
    assert error.max() <= 9 * 0.5 + 1.1
    wide = codes.reshape(300, -1)[:, code.order == 8].sum(axis=1)
    np.testing.assert_allclose(wide * code.unit, 3.0 * (rows[:, 8] - rows[:, 8].min()), atol=code.unit)


def test_one_wild_row_does_not_coarsen_the_step():
    rows = generator(0, "tame").random((400, 16)).astype(np.float32)
    tame = plan_code(rows, rows, np.ones(16)).unit
    rows[17] *= 30
    assert plan_code(rows, rows, np.ones(16)).unit < 2 * tame


def test_constant_features_have_a_step():
    code = plan_code(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32), np.ones(2))
    assert code.unit > 0
