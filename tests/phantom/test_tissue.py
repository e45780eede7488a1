import dataclasses

import numpy as np
from scipy.ndimage import zoom

from mnemoscope.core.rng import generator
from mnemoscope.phantom.anatomy import draw_patient
from mnemoscope.phantom.motion import build_heart
from mnemoscope.phantom.shape import GRID, row_at
from mnemoscope.phantom.tissue import paint


def cells(tissue) -> tuple[np.ndarray, np.ndarray]:
    index = np.arange(GRID) * tissue.pitch_mm
    return np.meshgrid(tissue.origin_mm[0] + index, tissue.origin_mm[1] + index, indexing="ij")


def test_levels_are_display_shares(patient):
    tissue = paint(build_heart(patient))
    assert tissue.level.shape == (GRID, GRID)
    assert tissue.level.dtype == np.float32
    assert tissue.level.min() >= 0.0
    assert tissue.level.max() <= 1.0


def test_blood_is_dark_and_muscle_bright(view, patient):
    heart = build_heart(patient)
    tissue = paint(heart)
    down, across = cells(tissue)
    if view == "psax":
        radius = np.hypot(down, across)
        endo = row_at(heart.rest, np.arctan2(down, across), heart.rest.inner_right)
        wall = row_at(heart.rest, np.arctan2(down, across), heart.rest.wall_right)
        blood, muscle = radius < 0.4 * endo, (radius > endo + 0.3 * wall) & (radius < endo + 0.7 * wall)
    else:
        mid = (down > 0.3 * heart.traits.lv_length_mm) & (down < 0.7 * heart.traits.lv_length_mm)
        left = row_at(heart.rest, down, heart.rest.centre - heart.rest.inner_left)
        wall = row_at(heart.rest, down, heart.rest.wall_left)
        blood = mid & (np.abs(across - row_at(heart.rest, down, heart.rest.centre)) < 4.0 * heart.traits.body_scale)
        muscle = mid & (across < left - 0.3 * wall) & (across > left - 0.7 * wall)
    assert tissue.level[blood].mean() < 0.5 * tissue.level[muscle].mean()
    assert 0.05 < tissue.level[blood].mean() < 0.2


def test_the_texture_of_the_muscle_is_the_patients(patient):
    """Two patients who differ in texture alone differ in the muscle by their textures' difference."""
    other = draw_patient(patient.view, generator(99, "other"))
    twin = dataclasses.replace(patient, texture=other.texture)
    one, two = paint(build_heart(patient)).level, paint(build_heart(twin)).level
    fine = zoom((patient.texture - twin.texture).astype(float), GRID / len(patient.texture), order=3, mode="nearest")
    bright = (one > 0.25) & (two > 0.25) & (one < 0.95) & (two < 0.95)
    assert np.corrcoef((one - two)[bright], fine[bright])[0, 1] > 0.5


def test_painting_is_repeatable(patient):
    np.testing.assert_array_equal(paint(build_heart(patient)).level, paint(build_heart(patient)).level)
