"""Tables: the few rows of each set that a reader should look at, chosen from frames of any length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mnemoscope.core.errors import InputError
from mnemoscope.report.words import NOT_RECORDED, megabytes, seconds

SAMPLE_COLUMNS = frozenset({"clip_id", "p_max", "nearest_clip_id", "gated", "flagged", "ssim"})
PATIENT_COLUMNS = frozenset(
    {"patient_id", "clips", "hits", "best_similarity", "flagged_hits", "learned", "leaked", "missed", "exposure_p"}
)


@dataclass(frozen=True)
class Exposed:
    """One patient of the ledger, as shown."""

    patient_id: str
    clips: int
    hits: int
    flagged_hits: int
    best_similarity: float
    exposure_p: float
    state: str


@dataclass(frozen=True)
class Stage:
    """One stage of the run record, as shown."""

    name: str
    time: str
    memory: str
    reused: bool


def require_columns(frame: pd.DataFrame, columns: frozenset[str], *, name: str) -> None:
    """Refuses a table that lacks a column.

    Raises:
        InputError: naming the table, every missing column and the remedy.
    """
    missing = sorted(columns - set(frame.columns))
    if missing:
        raise InputError(
            f"{name}: expected the columns {', '.join(sorted(columns))}; missing: {', '.join(missing)}; "
            f"write the table again with `mnemoscope audit`"
        )


def most_exposed(patients: pd.DataFrame, *, most: int) -> list[Exposed]:
    """The patients with the closest clip, so that a copy is never below many mild likenesses; then by flagged clips."""
    order = ["best_similarity", "flagged_hits", "patient_id"]
    ranked = patients.sort_values(order, ascending=[False, False, True], na_position="last").head(most)
    return [_exposed(row) for row in ranked.to_dict("records")]


def hits_per_clip(samples: pd.DataFrame) -> pd.Series:
    """How many gated synthetic clips have each train clip as their nearest; clips without a hit are absent."""
    return samples.loc[samples["gated"].astype(bool), "nearest_clip_id"].value_counts()


def stages(record: Mapping[str, Any]) -> list[Stage]:
    """The stages of a run record in the order they were noted."""
    return [_stage(name, entry) for name, entry in (record.get("stages") or {}).items()]


def _exposed(row: Mapping[Any, Any]) -> Exposed:
    state = "leaked" if row["leaked"] else "learned" if row["learned"] else "missed"
    return Exposed(
        patient_id=str(row["patient_id"]),
        clips=int(row["clips"]),
        hits=int(row["hits"]),
        flagged_hits=int(row["flagged_hits"]),
        best_similarity=float(row["best_similarity"]),
        exposure_p=float(row["exposure_p"]),
        state=state,
    )


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    reused = bool(entry.get("reused"))
    cost = (entry.get("made_in") or {}) if reused else entry
    return Stage(
        name=name,
        time=seconds(cost["seconds"]) if "seconds" in cost else NOT_RECORDED,
        memory=megabytes(cost["peak_memory_mb"]) if "peak_memory_mb" in cost else NOT_RECORDED,
        reused=reused,
    )
