import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.rng import generator
from mnemoscope.phantom.anatomy import VIEWS, draw_patient
from mnemoscope.phantom.motion import (
    Beat,
    beat_at,
    breathing_mm,
    build_heart,
    deform,
    leaflets,
    long_axis_mm,
    stretch_knots,
    volumes,
)


def still(*contractions: float) -> Beat:
    zeros = np.zeros(len(contractions))
    return Beat(contraction=np.array(contractions), opening=zeros, atrial_kick=zeros)


def fine_volume_ml(heart, contraction: float) -> float:
    """Body of revolution of the drawn contour in 20,000 slices; the short axis as a bullet over a polygon's area."""
    shape = deform(heart, still(contraction))
    length = float(long_axis_mm(heart, np.array([contraction]))[0])
    if shape.polar:
        radius, phi = shape.inner_right[0], shape.rows
        x, y = radius * np.cos(phi), radius * np.sin(phi)
        area = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
        return 5.0 / 6.0 * area * length / 1000.0
    levels = (np.arange(20_000) + 0.5) / 20_000 * heart.traits.lv_length_mm
    diameter = np.interp(levels, shape.rows, shape.inner_left[0] + shape.inner_right[0])
    return float(np.mean(np.pi / 4.0 * diameter**2) * length / 1000.0)


@settings(max_examples=30, deadline=None)
@given(view=st.sampled_from(VIEWS), seed=st.integers(0, 10_000), spread=st.sampled_from(["clinical", "even"]))
def test_the_ejection_fraction_asked_for_is_the_one_of_the_contour(view, seed, spread):
    heart = build_heart(draw_patient(view, generator(seed, "p"), ef_spread=spread))
    measured = volumes(heart)
    edv, esv = fine_volume_ml(heart, 0.0), fine_volume_ml(heart, 1.0)
    assert measured.ef == pytest.approx(heart.traits.ef_target_pct, abs=0.01)
    assert measured.edv == pytest.approx(edv, rel=0.01)
    assert 100.0 * (1.0 - esv / edv) == pytest.approx(measured.ef, abs=0.3)
    assert 0.0 < measured.esv < measured.edv


@settings(max_examples=20, deadline=None)
@given(
    view=st.sampled_from(VIEWS),
    seed=st.integers(0, 10_000),
    contraction=st.floats(0.0, 1.0),
    spread=st.sampled_from(["clinical", "even"]),
)
def test_boundaries_never_cross_during_the_beat(view, seed, contraction, spread):
    heart = build_heart(draw_patient(view, generator(seed, "p"), ef_spread=spread))
    assert np.diff(deform(heart, still(contraction)).knots, axis=-1).min() >= -1e-9
    assert np.diff(stretch_knots(heart, still(contraction))[0], axis=-1).min(initial=1.0) > 0.0


def test_walls_keep_their_volume_while_they_thicken(view, patient):
    heart = build_heart(patient)
    rest, now = deform(heart, still(0.0)), deform(heart, still(1.0))
    length = long_axis_mm(heart, np.array([0.0, 1.0]))
    row = 40 if view == "psax" else int(np.argmin(np.abs(heart.rest.rows - 0.5 * length[0])))

    def ring(shape):
        inner, wall = shape.inner_right[0, row], shape.wall_right[0, row]
        return (inner + wall) ** 2 - inner**2

    assert ring(now) * length[1] == pytest.approx(ring(rest) * length[0], rel=1e-6)
    assert now.wall_right[0, row] > rest.wall_right[0, row]


def test_a_beat_contracts_fills_and_repeats(patient):
    traits = patient.traits
    period_s = 60.0 / traits.heart_rate_bpm
    time_s = np.linspace(0.0, 8.0 * period_s, 4001)
    beat = beat_at(traits, time_s)
    for values in (beat.contraction, beat.opening, beat.atrial_kick):
        assert values.min() >= 0.0
        assert values.max() <= 1.0
    assert beat.contraction.max() > 0.999
    peaks = np.flatnonzero(
        (beat.contraction[1:-1] > 0.99) & (np.diff(beat.contraction)[:-1] > 0) & (np.diff(beat.contraction)[1:] <= 0)
    )
    assert len(peaks) == 8
    assert np.diff(time_s[peaks]).mean() == pytest.approx(period_s, rel=0.03)


def test_inflow_valves_are_shut_in_systole_and_open_after_it(patient):
    traits = patient.traits
    period_s = 60.0 / traits.heart_rate_bpm

    def at(phase: float) -> float:
        return float(beat_at(traits, np.array([phase * period_s])).opening[0])

    assert at(0.6 * traits.systole_share) < 0.2
    assert at(traits.systole_share + 0.09) > 0.6


def test_open_leaflets_point_to_the_apex_and_closed_ones_meet():
    heart = build_heart(draw_patient("a4c", generator(0, "p")))
    beat = Beat(contraction=np.zeros(2), opening=np.array([0.0, 1.0]), atrial_kick=np.zeros(2))
    segments = leaflets(heart, beat)
    assert segments.shape == (2, 8, 4)
    septal_tip, lateral_tip = segments[:, 1, 2:], segments[:, 3, 2:]
    gap = np.hypot(*(septal_tip - lateral_tip).T)
    hinge_gap = segments[0, 2, 1] - segments[0, 0, 1]
    assert gap[0] < 0.25 * hinge_gap < gap[1]
    assert septal_tip[1, 0] < septal_tip[0, 0] - 5.0


def test_the_valve_plane_moves_towards_the_apex():
    heart = build_heart(draw_patient("a4c", generator(0, "p")))
    now, rest = stretch_knots(heart, still(0.0, 1.0))
    np.testing.assert_allclose(now[0], rest)
    shortening = long_axis_mm(heart, np.array([0.0])) - long_axis_mm(heart, np.array([1.0]))
    assert now[1, 3] - now[1, 2] == pytest.approx(heart.traits.lv_length_mm - shortening[0])
    assert now[1, 3] < rest[3]


def test_breathing_moves_at_most_by_the_patients_amplitude(patient):
    moved = breathing_mm(patient.traits, np.linspace(0.0, 30.0, 2000))
    assert np.abs(moved[:, 1]).max() == pytest.approx(patient.traits.breathing_mm, rel=0.01)
    assert np.abs(moved[:, 0]).max() < np.abs(moved[:, 1]).max()
