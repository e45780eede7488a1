"""Anatomy: who a phantom patient is, as bounded traits with a wide population spread and a tissue-texture field."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import ndtr

from mnemoscope.core.errors import ConfigError

View = Literal["a4c", "ped_a4c", "psax"]
VIEWS: tuple[str, ...] = get_args(View)

TEXTURE_MODES = 28

EfSpread = Literal["clinical", "even"]
# Cumulative share of patients (first row) with at most this ejection fraction in percent (second row).
_EF_QUANTILES: dict[EfSpread, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clinical": (
        (0.0, 0.02, 0.07, 0.15, 0.30, 0.50, 0.75, 0.92, 1.0),
        (9.0, 18.0, 29.0, 39.0, 50.0, 57.0, 63.0, 69.0, 80.0),
    ),
    "even": ((0.0, 1.0), (9.0, 91.0)),
}


def _span(low: float, high: float) -> Any:
    return dataclasses.field(metadata={"low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Numbers that belong to one patient; each is uniform over its span in the population.

    Lengths in millimetres are those of an adult of ordinary size: ``body_scale`` multiplies them. A side is
    septal or lateral of the left ventricle's long axis; ``*_share`` is a share of the length or width named.
    """

    body_scale: float = _span(0.94, 1.06)
    view_depth_mm: float = _span(146.0, 166.0)
    depth_mm: float = _span(24.0, 38.0)
    lateral_mm: float = _span(0.0, 20.0)
    tilt_deg: float = _span(-12.0, 14.0)
    lv_length_mm: float = _span(72.0, 96.0)
    lv_radius_mm: float = _span(18.0, 25.5)
    lv_widest_share: float = _span(0.45, 0.75)
    lv_roundness: float = _span(0.40, 0.62)
    annulus_share: float = _span(0.66, 0.90)
    septal_bulge_share: float = _span(-0.14, 0.14)
    lateral_bulge_share: float = _span(-0.14, 0.14)
    septal_wave_share: float = _span(-0.08, 0.08)
    lateral_wave_share: float = _span(-0.08, 0.08)
    axis_bow_mm: float = _span(-5.0, 5.0)
    septum_mm: float = _span(6.5, 14.0)
    lateral_wall_mm: float = _span(6.0, 13.0)
    apex_wall_mm: float = _span(5.0, 10.0)
    septum_taper_share: float = _span(-0.35, 0.35)
    lateral_taper_share: float = _span(-0.35, 0.35)
    rv_start_share: float = _span(0.10, 0.42)
    rv_width_mm: float = _span(20.0, 40.0)
    rv_fullness: float = _span(0.45, 1.05)
    rv_wall_mm: float = _span(3.0, 6.0)
    tricuspid_offset_mm: float = _span(1.0, 9.0)
    rv_direction_deg: float = _span(165.0, 220.0)
    rv_opening_deg: float = _span(95.0, 150.0)
    la_length_mm: float = _span(32.0, 56.0)
    la_bulge_share: float = _span(0.0, 0.35)
    ra_length_mm: float = _span(30.0, 54.0)
    ra_width_mm: float = _span(26.0, 44.0)
    atrial_septum_mm: float = _span(2.5, 5.0)
    papillary_place_share: float = _span(0.32, 0.66)
    papillary_size_mm: float = _span(3.0, 7.0)
    papillary_level: float = _span(0.05, 0.35)
    papillary_angle_deg: float = _span(55.0, 105.0)
    moderator_place_share: float = _span(0.35, 0.75)
    moderator_level: float = _span(0.0, 0.38)
    wall_level: float = _span(0.36, 0.54)
    pericardium_level: float = _span(0.10, 0.36)
    endocardium_level: float = _span(0.02, 0.15)
    outside_level: float = _span(0.16, 0.34)
    valve_level: float = _span(0.38, 0.62)
    texture_level: float = _span(0.06, 0.11)
    anterior_leaflet_share: float = _span(0.48, 0.68)
    heart_rate_bpm: float = _span(52.0, 98.0)
    systole_share: float = _span(0.32, 0.43)
    early_filling_share: float = _span(0.45, 0.85)
    long_strain_share: float = _span(0.20, 0.34)
    rv_shortening_share: float = _span(0.15, 0.45)
    septal_motion_share: float = _span(-0.25, 0.25)
    apical_motion_share: float = _span(-0.25, 0.25)
    twist_deg: float = _span(0.0, 9.0)
    breathing_mm: float = _span(0.4, 2.4)
    breathing_hz: float = _span(0.18, 0.33)
    ef_target_pct: float = _span(0.0, 100.0)


# Where a view's population differs from the adult apical one: (low, high) of the trait.
_VIEW_SPANS: dict[str, dict[str, tuple[float, float]]] = {
    "a4c": {},
    "ped_a4c": {
        "body_scale": (0.42, 0.84),
        "view_depth_mm": (134.0, 154.0),
        "depth_mm": (15.0, 27.0),
        "heart_rate_bpm": (78.0, 142.0),
        "lv_radius_mm": (19.0, 26.5),
        "breathing_hz": (0.28, 0.50),
    },
    "psax": {
        "body_scale": (0.48, 0.96),
        "view_depth_mm": (112.0, 132.0),
        "depth_mm": (52.0, 68.0),
        "lateral_mm": (-2.0, 16.0),
        "tilt_deg": (-20.0, 20.0),
        "heart_rate_bpm": (70.0, 136.0),
        "septal_bulge_share": (-0.10, 0.10),
        "lateral_bulge_share": (-0.10, 0.10),
        "septal_wave_share": (-0.05, 0.05),
        "lateral_wave_share": (-0.05, 0.05),
        "papillary_level": (0.18, 0.38),
        "papillary_size_mm": (4.0, 8.0),
        "rv_width_mm": (12.0, 30.0),
    },
}


@dataclass(frozen=True, eq=False)
class Patient:
    """One phantom patient: traits in population scores and a tissue-texture field, both standard normal.

    Attributes:
        view: the view this patient is seen in.
        scores: one standard-normal score per trait, in the order of ``Traits``, shape (n_traits,).
        texture: coefficients of the echogenicity field of the tissue, shape (TEXTURE_MODES, TEXTURE_MODES).
        ef_spread: the population's ejection fractions.
    """

    view: View
    scores: np.ndarray
    texture: np.ndarray
    ef_spread: EfSpread = "clinical"

    @property
    def traits(self) -> Traits:
        """The patient's numbers in their units."""
        shares = ndtr(self.scores)
        spans = trait_spans(self.view)
        values = {
            name: low + (high - low) * float(share)
            for (name, (low, high)), share in zip(spans.items(), shares, strict=True)
        }
        values["ef_target_pct"] = float(np.interp(values["ef_target_pct"] / 100.0, *_EF_QUANTILES[self.ef_spread]))
        return _in_body_size(Traits(**values))


def _in_body_size(traits: Traits) -> Traits:
    scaled = {
        field.name: getattr(traits, field.name) * traits.body_scale
        for field in dataclasses.fields(traits)
        if field.name.endswith("_mm") and field.name != "breathing_mm"
    }
    # A failing ventricle dilates: the population's EF and size are not independent.
    scaled["lv_radius_mm"] *= 1.0 + 0.004 * (57.0 - traits.ef_target_pct)
    return dataclasses.replace(traits, **scaled)


def trait_spans(view: View) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every trait in the population of a view.

    Args:
        view: one of ``VIEWS``.

    Returns:
        (low, high) by trait name, in the order of ``Traits``.

    Raises:
        ConfigError: for an unknown view.
    """
    if view not in VIEWS:
        raise ConfigError(
            f"a phantom view is one of {', '.join(VIEWS)}, got {view!r}; choose one of them (view=, --view)"
        )
    own = _VIEW_SPANS[view]
    return {f.name: own.get(f.name, (f.metadata["low"], f.metadata["high"])) for f in dataclasses.fields(Traits)}


def draw_patient(view: View, rng: np.random.Generator, *, ef_spread: EfSpread = "clinical") -> Patient:
    """A patient from the population of a view.

    Args:
        view: one of ``VIEWS``.
        rng: source of the patient's traits and texture.
        ef_spread: ``clinical`` (few hearts fail), or ``even`` over 9–91 %.

    Returns:
        the patient.

    Raises:
        ConfigError: for an unknown view.
    """
    scores = rng.standard_normal(len(trait_spans(view)))
    texture = rng.standard_normal((TEXTURE_MODES, TEXTURE_MODES)).astype(np.float32)
    return Patient(view=view, scores=scores, texture=texture, ef_spread=ef_spread)


def vary_patient(patient: Patient, stranger: Patient, *, variation: float) -> Patient:
    """A patient between two, who is again distributed like the population.

    Args:
        patient: returned unchanged at ``variation`` 0.
        stranger: returned at ``variation`` 1; same view.
        variation: how far to go, in [0, 1]; scores mix as ``sqrt(1 - variation**2)`` and ``variation``.

    Returns:
        the mixed patient.

    Raises:
        ConfigError: if the variation is out of range or the views differ.
    """
    if not 0.0 <= variation <= 1.0:
        raise ConfigError(
            f"variation lies in [0, 1], got {variation:g}; set it in that range (variation=, --variation)"
        )
    if patient.view != stranger.view:
        raise ConfigError(
            f"only patients of one view can be mixed, got {patient.view!r} and {stranger.view!r}; "
            f"draw both with the same view (view=, --view)"
        )
    keep = float(np.sqrt(1.0 - variation**2))
    return dataclasses.replace(
        patient,
        scores=keep * patient.scores + variation * stranger.scores,
        texture=(keep * patient.texture + variation * stranger.texture).astype(np.float32),
    )
