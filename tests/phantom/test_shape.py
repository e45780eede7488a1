import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.rng import generator
from mnemoscope.phantom.anatomy import VIEWS, draw_patient
from mnemoscope.phantom.shape import GRID, build_shape, grid_pitch_mm, row_at


@settings(deadline=None)
@given(view=st.sampled_from(VIEWS), seed=st.integers(0, 10_000))
def test_boundaries_never_cross(view, seed):
    shape = build_shape(view, draw_patient(view, generator(seed, "p")).traits)
    assert shape.knots.shape == (GRID, 6 if view == "psax" else 8)
    assert np.diff(shape.knots, axis=1).min() >= -1e-9


def test_the_apical_cavity_is_closed_at_the_apex_and_open_at_the_valve():
    traits = draw_patient("a4c", generator(0, "p")).traits
    shape = build_shape("a4c", traits)
    width = shape.inner_left + shape.inner_right
    assert width[shape.rows < 0.0].max() == 0.0
    at_valve = np.interp(traits.lv_length_mm, shape.rows, width)
    assert at_valve == pytest.approx(2.0 * traits.lv_radius_mm * traits.annulus_share, rel=0.02)
    assert width[shape.rows > traits.lv_length_mm + traits.la_length_mm].max() == 0.0


def test_walls_are_about_as_thick_as_the_patient_says():
    traits = draw_patient("a4c", generator(0, "p")).traits
    shape = build_shape("a4c", traits)
    middle = np.argmin(np.abs(shape.rows - traits.lv_widest_share * traits.lv_length_mm))
    taper = 1.0 + traits.septum_taper_share * (2.0 * traits.lv_widest_share - 1.0)
    assert shape.wall_left[middle] == pytest.approx(traits.septum_mm * taper, rel=0.1)


def test_the_right_ventricle_of_the_short_axis_lies_on_its_side_only():
    traits = draw_patient("psax", generator(0, "p")).traits
    shape = build_shape("psax", traits)
    direction = np.deg2rad(traits.rv_direction_deg + traits.tilt_deg)
    assert row_at(shape, np.array(direction), shape.right_cavity) == pytest.approx(traits.rv_width_mm, rel=0.01)
    assert row_at(shape, np.array(direction + np.pi), shape.right_cavity) == pytest.approx(0.0, abs=1e-9)


def test_rows_interpolate_around_the_circle():
    shape = build_shape("psax", draw_patient("psax", generator(0, "p")).traits)
    values = np.arange(GRID, dtype=float)
    step = 2.0 * np.pi / GRID
    assert row_at(shape, np.array(-0.5 * step), values) == pytest.approx(0.5 * (values[-1] + values[0]))
    assert row_at(shape, np.array(2.0 * np.pi + 2.5 * step), values) == pytest.approx(2.5)


def test_rows_are_one_map_cell_apart():
    traits = draw_patient("ped_a4c", generator(0, "p")).traits
    shape = build_shape("ped_a4c", traits)
    np.testing.assert_allclose(np.diff(shape.rows), grid_pitch_mm(traits))
