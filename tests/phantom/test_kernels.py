import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mnemoscope.phantom import kernels

steps = arrays(np.float64, st.integers(1, 6), elements=st.floats(0.5, 20.0))


# The first call compiles.
@settings(deadline=None)
@given(now=steps, rest_step=st.floats(0.5, 20.0), share=st.floats(0.0, 1.0))
def test_piecewise_is_linear_interpolation(now, rest_step, share):
    knots = np.concatenate([[0.0], np.cumsum(now)])
    rest = rest_step * np.arange(len(knots), dtype=float)
    x = share * knots[-1]
    assert kernels._piecewise(x, knots, rest) == pytest.approx(np.interp(x, knots, rest), abs=1e-6)


def test_beyond_the_knots_tissue_moves_with_the_end():
    now, rest = np.array([0.0, 2.0]), np.array([1.0, 5.0])
    assert kernels._piecewise(-3.0, now, rest) == pytest.approx(-2.0)
    assert kernels._piecewise(4.0, now, rest) == pytest.approx(7.0)


@settings(deadline=None)
@given(share=st.floats(0.01, 0.99), row=st.floats(0.0, 2.99))
def test_across_a_row_is_interpolation_between_the_interpolated_knots(share, row):
    now = np.array([[-5.0, 0.0, 4.0], [-5.0, 1.0, 6.0], [-5.0, 2.0, 8.0], [-5.0, 0.0, 5.0]])
    rest = np.array([[-5.0, 0.5, 7.0], [-5.0, 1.5, 6.5], [-5.0, 1.0, 9.0], [-5.0, 0.0, 5.0]])
    i, f = int(row), row - int(row)
    at_now, at_rest = (table[i] + f * (table[i + 1] - table[i]) for table in (now, rest))
    b = at_now[0] + share * (at_now[-1] - at_now[0])
    assert kernels._across_row(b, row, now, rest) == pytest.approx(np.interp(b, at_now, at_rest), abs=1e-6)


def test_the_last_row_of_a_circle_leads_back_to_the_first():
    now = np.array([[0.0, 1.0], [0.0, 3.0]])
    assert kernels._across_row(1.0, 1.5, now, 2.0 * now) == pytest.approx(2.0)


@settings(deadline=None)
@given(i=st.floats(-2.0, 5.0), j=st.floats(-2.0, 6.0))
def test_samples_are_bilinear_and_hold_the_border(i, j):
    grid = np.outer(np.arange(4.0), np.ones(5)) + np.outer(np.ones(4), 10.0 * np.arange(5.0))
    expected = np.clip(i, 0.0, 3.0) + 10.0 * np.clip(j, 0.0, 4.0)
    assert kernels._sample(grid, i, j) == pytest.approx(expected, abs=0.02)


@settings(deadline=None)
@given(i=st.floats(-20.0, 20.0), j=st.floats(-20.0, 20.0))
def test_a_tile_repeats(i, j):
    tile = np.random.Generator(np.random.Philox(key=5)).standard_normal((8, 8)).astype(np.float32)
    here = kernels._sample_tile(tile, i, j)
    assert here == pytest.approx(kernels._sample_tile(tile, i + 8.0, j - 16.0), abs=1e-4)
    assert here == pytest.approx(kernels._sample_tile(np.tile(tile, (2, 2)), i, j), abs=1e-4)


def test_a_point_belongs_to_the_leaflet_it_lies_on():
    leaflets = np.array([[0.0, 0.0, -10.0, 0.0], [0.0, 20.0, -10.0, 20.0]], dtype=np.float32)
    on, beside, past, far = (
        kernels._leaflet_share(s, v, leaflets, 1.0) for s, v in ((-5.0, 0.0), (-5.0, 1.0), (2.0, 0.0), (-5.0, 10.0))
    )
    assert on == pytest.approx(1.0)
    assert beside == pytest.approx(np.exp(-0.5))
    assert past == pytest.approx(np.exp(-2.0))
    assert far == 0.0
