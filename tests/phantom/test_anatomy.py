import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import ConfigError
from mnemoscope.core.rng import generator
from mnemoscope.phantom.anatomy import TEXTURE_MODES, VIEWS, Patient, draw_patient, trait_spans, vary_patient

N_TRAITS = len(trait_spans("a4c"))


def at_scores(view: str, score: float) -> Patient:
    return Patient(
        view=view, scores=np.full(N_TRAITS, score), texture=np.zeros((TEXTURE_MODES, TEXTURE_MODES), np.float32)
    )


@pytest.mark.parametrize("view", VIEWS)
def test_a_score_of_zero_is_the_middle_of_every_span(view):
    traits = at_scores(view, 0.0).traits
    spans = trait_spans(view)
    assert traits.heart_rate_bpm == pytest.approx(np.mean(spans["heart_rate_bpm"]))
    assert traits.lv_length_mm == pytest.approx(np.mean(spans["lv_length_mm"]) * traits.body_scale)
    assert traits.ef_target_pct == pytest.approx(57.0)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("score", "end"), [(-9.0, 0), (9.0, 1)])
def test_extreme_scores_stay_at_the_ends_of_the_span(view, score, end):
    traits = at_scores(view, score).traits
    assert traits.heart_rate_bpm == pytest.approx(trait_spans(view)["heart_rate_bpm"][end])
    assert traits.ef_target_pct == pytest.approx((9.0, 80.0)[end])


def test_children_are_smaller_and_faster_than_adults():
    adult, child = at_scores("a4c", 0.0).traits, at_scores("ped_a4c", 0.0).traits
    assert child.lv_length_mm < 0.8 * adult.lv_length_mm
    assert child.view_depth_mm < 0.8 * adult.view_depth_mm
    assert child.heart_rate_bpm > 1.3 * adult.heart_rate_bpm


def test_a_failing_ventricle_is_wider():
    patient = at_scores("a4c", 0.0)
    index = list(trait_spans("a4c")).index("ef_target_pct")
    scores = patient.scores.copy()
    scores[index] = -2.5
    assert dataclasses.replace(patient, scores=scores).traits.lv_radius_mm > 1.1 * patient.traits.lv_radius_mm


def test_more_than_twenty_traits_vary_independently():
    scores = np.stack([draw_patient("a4c", generator(0, "p", index)).scores for index in range(400)])
    correlation = np.corrcoef(scores.T) - np.eye(N_TRAITS)
    assert N_TRAITS > 20
    assert np.abs(correlation).max() < 0.25  # five standard errors of an independent pair


@pytest.mark.parametrize("view", VIEWS)
def test_the_population_spans_failing_to_hyperdynamic_hearts(view):
    ef = [draw_patient(view, generator(1, "p", index)).traits.ef_target_pct for index in range(400)]
    assert min(ef) < 20.0
    assert max(ef) > 74.0
    assert 50.0 < np.median(ef) < 63.0


def test_ef_is_even_where_asked_and_nothing_else_of_the_patient_changes():
    """Quartiles of 9–91 %, by five standard errors; the left ventricle's size goes with EF."""
    even = [draw_patient("a4c", generator(1, "p", index), ef_spread="even").traits for index in range(400)]
    clinical = [draw_patient("a4c", generator(1, "p", index)).traits for index in range(400)]
    ef = [traits.ef_target_pct for traits in even]
    np.testing.assert_allclose(np.percentile(ef, [0, 25, 50, 75, 100]), [9, 29.5, 50, 70.5, 91], atol=10.3)
    assert max(ef) > 85.0
    follow_ef = {"ef_target_pct", "lv_radius_mm"}
    for a, b in zip(even, clinical, strict=True):
        differing = {name for name, value in dataclasses.asdict(a).items() if value != getattr(b, name)}
        assert differing == follow_ef


@pytest.mark.parametrize("variation", [0.0, 0.4])
def test_a_varied_patient_keeps_the_spread_of_ef(variation):
    patient, stranger = (draw_patient("a4c", generator(0, name), ef_spread="even") for name in ("p", "s"))
    assert vary_patient(patient, stranger, variation=variation).ef_spread == "even"


def test_the_same_generator_makes_the_same_patient(view):
    one, two = draw_patient(view, generator(3, "p")), draw_patient(view, generator(3, "p"))
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.texture, two.texture)
    assert one.traits == two.traits


def test_variation_runs_from_the_patient_to_the_stranger(view):
    patient, stranger = draw_patient(view, generator(0, "p")), draw_patient(view, generator(0, "s"))
    np.testing.assert_array_equal(vary_patient(patient, stranger, variation=0.0).scores, patient.scores)
    np.testing.assert_array_equal(vary_patient(patient, stranger, variation=1.0).texture, stranger.texture)


@settings(deadline=None)
@given(variation=st.floats(0.0, 1.0))
def test_a_varied_patient_is_distributed_like_the_population(variation):
    patient, stranger = draw_patient("a4c", generator(0, "p")), draw_patient("a4c", generator(0, "s"))
    varied = vary_patient(patient, stranger, variation=variation)
    expected = np.sqrt(1.0 - variation**2) * patient.texture + variation * stranger.texture
    np.testing.assert_allclose(varied.texture, expected, atol=1e-5)
    assert varied.texture.std() == pytest.approx(1.0, abs=0.1)


def test_an_unknown_view_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"a4c, ped_a4c, psax.*'plax'.*--view"):
        trait_spans("plax")


@pytest.mark.parametrize("variation", [-0.1, 1.1, float("nan")])
def test_a_variation_out_of_range_is_refused(variation):
    patient = draw_patient("a4c", generator(0, "p"))
    with pytest.raises(ConfigError, match="--variation"):
        vary_patient(patient, patient, variation=variation)


def test_patients_of_two_views_do_not_mix():
    with pytest.raises(ConfigError, match=r"'a4c' and 'psax'.*--view"):
        vary_patient(draw_patient("a4c", generator(0, "p")), draw_patient("psax", generator(0, "p")), variation=0.5)
