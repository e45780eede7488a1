"""Subgroups: whom the generator learned and whom it leaks, by strata of the patients' attributes."""

from itertools import pairwise

import numpy as np

from mnemoscope.audit.intervals import wilson
from mnemoscope.core.errors import Mismatch
from mnemoscope.core.types import Estimate, Flags, Subgroup

EF_CUTS = (30.0, 40.0, 50.0, 60.0)
MOST_STRATA = 12
FEWEST_CLIPS = 5
MISSING = "not given"
OTHER = "other"


def subgroup_table(
    attributes: dict[str, np.ndarray], learned: Flags, leaked: Flags, *, patients: np.ndarray
) -> list[Subgroup]:
    """Learned and leaked shares of the train clips in each stratum of each attribute.

    Args:
        attributes: by name, one value per train clip, (M,); see :func:`strata`.
        learned: train clips that were learned, (M,).
        leaked: train clips that leaked, (M,).
        patients: patient of each train clip, any labels, (M,).

    Returns:
        Attributes in the order given, strata as :func:`strata` orders them; an attribute of one stratum is left out,
        because it is the whole set. A share is of clips; its Wilson interval counts patients, as if all clips of one
        told the same, with the lower bound at the patients' number rounded down and the upper at that rounded up.

    Raises:
        Mismatch: if an attribute or flag has another length than ``patients``.
    """
    for name, values in {**attributes, "learned": learned, "leaked": leaked}.items():
        if len(values) != len(patients):
            raise Mismatch(f"{name}: expected one value for each of {len(patients)} train clips, found {len(values)}")
    rows = []
    for attribute, values in attributes.items():
        names, stratum = strata(values, attribute=attribute)
        for number, name in enumerate(names if len(names) > 1 else []):
            inside = stratum == number
            shares = [_share(flags[inside], patients[inside]) for flags in (learned, leaked)]
            rows.append(Subgroup(attribute, name, int(inside.sum()), *shares))
    return rows


def strata(values: np.ndarray, *, attribute: str = "") -> tuple[list[str], np.ndarray]:
    """Cuts an attribute into strata of at least ``FEWEST_CLIPS`` clips.

    Numbers of more than ``MOST_STRATA`` different values are cut at the quartiles, rounded as their names show, an
    attribute called ``ef`` at 30, 40, 50 and 60 %; a clip at a cut belongs above it. A stratum of too few clips joins
    the one below, the lowest the one above. All else is one stratum per value; beyond the ``MOST_STRATA`` − 1 most
    frequent values, and below ``FEWEST_CLIPS`` clips, values join "other". Missing is None, NaN or empty
    text.

    Args:
        values: numbers, or anything with a text, (M,).
        attribute: its name.

    Returns:
        Names of the strata, numbers upwards or texts in alphabetical order, then "other", then "not given"; and the
        number of each clip's stratum, (M,).
    """
    missing = np.array([value is None or value != value or value == "" for value in values.tolist()], dtype=bool)
    given = values[~missing]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given.tolist())
    if numeric and len(given) and (attribute.lower() == "ef" or len(set(given.tolist())) > MOST_STRATA):
        names, code = _by_cuts(given.astype(np.float64), attribute)
    else:
        names, code = _by_value(given, numeric)
    stratum = np.full(len(values), len(names))
    stratum[~missing] = code
    if missing.any():
        names, stratum = _join_small([*names, MISSING], stratum)
    return names, stratum


def _by_cuts(values: np.ndarray, attribute: str) -> tuple[list[str], np.ndarray]:
    cuts = list(EF_CUTS) if attribute.lower() == "ef" else _quartiles(values)
    code = np.searchsorted(cuts, values, side="right")
    # Ranges, not names, are joined, so that "30–40" and "40–50" become "30–50".
    edges = [-np.inf, *cuts, np.inf]
    counts = np.bincount(code, minlength=len(edges) - 1).tolist()
    while len(counts) > 1 and min(counts) < FEWEST_CLIPS:
        small = counts.index(min(counts))
        lower = max(small - 1, 0)
        counts[lower : lower + 2] = [counts[lower] + counts[lower + 1]]
        del edges[lower + 1]
    names = [_range(low, high) for low, high in pairwise(edges)]
    return names, np.searchsorted(edges[1:-1], values, side="right")


def _quartiles(values: np.ndarray) -> list[float]:
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    for digits in range(3, 18):
        cuts = sorted({float(f"{cut:.{digits}g}") for cut in quartiles})
        if len(cuts) == len(set(quartiles)):
            break
    return cuts


def _range(low: float, high: float) -> str:
    if np.isinf(low):
        return "all" if np.isinf(high) else f"< {_number(high)}"
    return f"≥ {_number(low)}" if np.isinf(high) else f"{_number(low)}–{_number(high)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _by_value(values: np.ndarray, numeric: bool) -> tuple[list[str], np.ndarray]:
    texts = [_number(value) if numeric else str(value) for value in values.tolist()]
    names, first, code, counts = np.unique(texts, return_index=True, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")
    own = np.zeros(len(names), dtype=bool)
    own[frequent if len(names) <= MOST_STRATA else frequent[: MOST_STRATA - 1]] = True
    own &= counts >= FEWEST_CLIPS
    # Rare values that are too few even together take the least frequent stratum with them.
    while 0 < counts[~own].sum() < FEWEST_CLIPS and own.any():
        own[[name for name in frequent if own[name]][-1]] = False
    kept = [int(name) for name in np.flatnonzero(own)]
    if numeric:
        kept.sort(key=lambda name: values[first[name]])
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    return [str(names[name]) for name in kept] + ([] if own.all() else [OTHER]), place[code]


def _join_small(names: list[str], stratum: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Joins the last stratum, that of missing values, and the one before if either has too few clips."""
    if len(names) == 1 or np.bincount(stratum, minlength=len(names))[-2:].min() >= FEWEST_CLIPS:
        return names, stratum
    *others, before, last = names
    return [*others, f"{before} or {last}"], np.minimum(stratum, len(names) - 2)


def _share(flags: Flags, patients: np.ndarray) -> Estimate:
    trials = len(np.unique(patients))
    weighed = int(flags.sum()) * trials
    low, high = wilson(weighed // len(flags), trials).low, wilson(-(-weighed // len(flags)), trials).high
    return Estimate(float(flags.mean()), low, high)
