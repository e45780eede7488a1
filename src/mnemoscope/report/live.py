"""Live: the numbers that the page counts again when its reader moves a control, as one block of data."""

import base64
import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from mnemoscope.audit.intervals import share_difference, wilson
from mnemoscope.audit.privacy import flag_count_p
from mnemoscope.audit.subgroups import strata
from mnemoscope.core.types import Estimate
from mnemoscope.data.manifest import COLUMNS
from mnemoscope.report.material import SETS, Material
from mnemoscope.report.words import FEWEST, UNSAID, gives_away

_PERCENTILES = np.round([*np.arange(80.0, 99.0, 0.5), *np.arange(99.0, 99.95, 0.1)], 1)
_NOT_ATTRIBUTES = {*COLUMNS, "set", "first_frame"} - {"ef", "view"}
_CELLS = 65535
_UNSAID = dict.fromkeys(("flagged", "rate", "excess", "p"))


def percentiles(material: Material) -> dict[str, Any] | None:
    """tau, flags, excess and power at every percentile that the holdout can resolve; None without a privacy test.

    Each number is the audit's own (:mod:`mnemoscope.audit.privacy`), computed at another percentile.
    """
    if material.result.privacy is None or material.samples.empty or material.holdout.empty:
        return None
    holdout, synthetic = (np.sort(part["p_max"].to_numpy(np.float64)) for part in (material.holdout, material.samples))
    own = material.result.privacy.percentile
    highest = 100.0 - 100.0 / len(holdout)
    steps = np.unique([*_PERCENTILES[highest >= _PERCENTILES], own])
    ladder = {str(name): np.sort(rung.to_numpy()) for name, rung in _rungs(material.ladder)}
    rows = [_at(float(step), holdout, synthetic, ladder) for step in steps]
    number = int(np.searchsorted(steps, own))
    if material.redacted:
        kept = _of_many(rows, holdout, number)
        number = kept.index(number)
        # The audit's own tau is as the report tells it; the others place no clip that closely.
        digits = [3 if step == number else 2 for step in range(len(kept))]
        rows = [rows[i] | {"tau": round(rows[i]["tau"], n)} for i, n in zip(kept, digits, strict=True)]
        rows = [row | _UNSAID if gives_away(row["flagged"], len(synthetic)) else row for row in rows]
    return {"own": number, "rungs": list(ladder), "clips": len(synthetic), "steps": rows} | (
        {"fewest": FEWEST, "unsaid": UNSAID} if material.redacted else {}
    )


def _of_many(rows: list[dict[str, Any]], holdout: np.ndarray, own: int) -> list[int]:
    """Numbers of the steps that may leave the house: between two of them lie no clips or ``FEWEST`` and more.

    Closer steps would tell the score of one clip. The audit's own step, number ``own``, always stays.
    """
    counts = [(_above(holdout, row["tau"]), row["flagged"]) for row in rows]
    kept = [own]
    for number, found in enumerate(counts):
        distances = [abs(a - b) for other in kept for a, b in zip(found, counts[other], strict=True)]
        if all(count >= FEWEST for count in found) and all(d == 0 or d >= FEWEST for d in distances):
            kept.append(number)
    return sorted({*kept})


def _rungs(ladder: pd.DataFrame | None) -> Any:
    return () if ladder is None else ladder.groupby("rung", sort=False)["p_max"]


def _at(
    percentile: float, holdout: np.ndarray, synthetic: np.ndarray, ladder: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Sorted scores in, the numbers at one percentile out."""
    tau = float(np.percentile(holdout, percentile))
    flagged, above = _above(synthetic, tau), _above(holdout, tau)
    rate = wilson(flagged, len(synthetic))
    excess = share_difference(rate, wilson(above, len(holdout)))
    return {
        "percentile": percentile,
        "tau": tau,
        "flagged": flagged,
        "rate": _rounded(rate),
        "excess": _rounded(excess),
        "p": float(f"{flag_count_p(flagged, len(synthetic), above, len(holdout)):.3g}"),
        "power": [_rounded(wilson(_above(rung, tau), len(rung))) for rung in ladder.values()],
    }


def _above(ordered: np.ndarray, tau: float) -> int:
    return int(len(ordered) - np.searchsorted(ordered, tau, side="right"))


def _rounded(found: Estimate) -> list[float]:
    return [round(value, 5) for value in astuple(found)]


def map_points(material: Material) -> dict[str, Any] | None:
    """The map for the page: places and scores as packed numbers, attributes, ids, thumbnails; None without a map."""
    if material.places is None:
        return None
    places = _ordered(material)
    scores = {name: part.set_index("clip_id")["p_max"] for name, part in _queries(material)}
    p_max = np.full(len(places), np.nan, dtype=np.float32)
    for name, score in scores.items():
        rows = (places["set"] == name).to_numpy()
        p_max[rows] = score.reindex(places["clip_id"][rows]).to_numpy()
    thumbnails = {
        number: material.thumbnails[key]
        for number, key in enumerate(zip(places["set"], places["clip_id"], strict=True))
        if key in material.thumbnails
    }
    return {
        "sets": [int((places["set"] == name).sum()) for name in SETS],
        "x": _packed(_scaled(places["x"])),
        "y": _packed(_scaled(places["y"])),
        "p_max": _packed(p_max),
        "state": _packed(_states(material, places)),
        "ids": places["clip_id"].tolist(),
        "attributes": _attributes(material, places),
        "thumbnails": thumbnails,
    }


def _ordered(material: Material) -> pd.DataFrame:
    assert material.places is not None
    places = material.places.assign(rank=material.places["set"].map({name: i for i, name in enumerate(SETS)}))
    return places.sort_values(["rank", "clip_id"], ignore_index=True)


def _queries(material: Material) -> tuple[tuple[str, pd.DataFrame], ...]:
    return ("holdout", material.holdout), ("synthetic", material.samples)


def _states(material: Material, places: pd.DataFrame) -> np.ndarray:
    """1 for a learned train clip and for a query that counts, else 0."""
    gated = material.samples[material.samples["gated"].astype(bool)]
    learned = (places["set"] == "train") & places["clip_id"].isin(gated["nearest_clip_id"])
    counts = (places["set"] == "synthetic") & places["clip_id"].isin(gated["clip_id"])
    return (learned | counts).to_numpy(np.uint8)


def _attributes(material: Material, places: pd.DataFrame) -> dict[str, Any]:
    if material.attributes is None:
        return {}
    table = material.attributes.set_index(["set", "clip_id"])
    table = table.reindex(pd.MultiIndex.from_frame(places[["set", "clip_id"]]))
    names = [name for name in table.columns if name not in _NOT_ATTRIBUTES]
    return {str(name): found for name in names if (found := _attribute(table[name], str(name))) is not None}


def _attribute(column: pd.Series, name: str) -> dict[str, Any] | None:
    """Groups of an attribute and each clip's; None where all clips are of one."""
    values = column.astype(object).where(column.notna(), None).to_numpy()
    groups, code = strata(values, attribute=name)
    return {"groups": groups, "code": _packed(code.astype(np.uint8))} if len(groups) > 1 else None


def _scaled(values: pd.Series) -> np.ndarray:
    low, high = values.min(), values.max()
    return ((values - low) / max(high - low, 1e-9) * _CELLS).round().to_numpy(np.uint16)


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def data_block(values: Mapping[str, Any]) -> Markup:
    """JSON for a script element: no sign in it can end the element or begin another."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    # Every "<" is written as an escape, which JSON reads back as itself.
    return Markup(text.replace("<", "\\u003c"))
