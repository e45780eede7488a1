"""Material: all that a page is made of, gathered and small, before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mnemoscope.core.types import AuditResult
from mnemoscope.downstream.results import DownstreamResult

SETS = ("train", "holdout", "synthetic")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic clip beside the train clip it is closest to.

    Attributes:
        clip_id: the synthetic clip.
        train_clip_id: the nearest train clip.
        train_patient_id: whose clip that is.
        similarity: of the two, in logits.
        learned_for: whether the clip counts as having learned the train clip.
        ssim: structural similarity of the two most similar frames; None if nobody looked.
        copy_of: the real clip whose every frame the synthetic clip has; empty if there is none.
        ef: ejection fraction the synthetic clip was made for, in percent; None if unknown.
        stratum: group of that ejection fraction; empty if unknown.
        picture: both clips side by side, playing in step, as a data URI; empty if there are no pictures.
    """

    clip_id: str
    train_clip_id: str
    train_patient_id: str
    similarity: float
    learned_for: bool
    ssim: float | None = None
    copy_of: str = ""
    ef: float | None = None
    stratum: str = ""
    picture: str = ""


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """A train clip that no synthetic clip reached: its group, and itself as a data URI."""

    clip_id: str
    patient_id: str
    group: str
    picture: str


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that a page is made of.

    Attributes:
        result: the audit's numbers.
        samples: one row per synthetic clip, as in ``samples.parquet``.
        holdout: the same of each holdout clip.
        patients: the ledger, as in ``patients.parquet``.
        record: the content of ``run.json``.
        pairs: nearest pairs, exact copies first, then the most similar.
        missed: train clips that no synthetic clip reached.
        ladder: columns rung and p_max, one row per planted copy; None if there is none.
        places: columns clip_id, set, x, y: the map; None if there is none.
        attributes: one row per clip of the three sets, clip_id, set and attributes such as ef; None if unknown.
        thumbnails: by (set, clip_id), a small playing picture as a data URI.
        downstream: what the set is worth to train on; None if it was not measured.
        hashes: fingerprints of what the audit was computed from and of what it is, by name.
        absent: why pictures or map are not there, by these names.
        redacted: whether the page may leave the house: nothing of a real patient is in the material then.
        first: number of the first pair, above 0 on the pages beside the report.
    """

    result: AuditResult
    samples: pd.DataFrame
    holdout: pd.DataFrame
    patients: pd.DataFrame
    record: Mapping[str, Any]
    pairs: Sequence[Pair] = ()
    missed: Sequence[Portrait] = ()
    ladder: pd.DataFrame | None = None
    places: pd.DataFrame | None = None
    attributes: pd.DataFrame | None = None
    thumbnails: Mapping[tuple[str, str], str] = field(default_factory=dict)
    downstream: DownstreamResult | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    redacted: bool = False
    first: int = 0
