"""The vocabulary: array shapes by letter, and what an audit returns.

Letters: B batch, T frames, C channels, H height, W width, N queries, M gallery, D features, P patients.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mnemoscope.core.errors import CorruptFile

Frames = UInt8[np.ndarray, "T H W *color"]
Latents = Float[np.ndarray, "T C H W"]
Features = Float[np.ndarray, "N D"]
Scores = Float[np.ndarray, " N"]
Flags = Bool[np.ndarray, " N"]
ClipIndex = Int[np.ndarray, " N"]

SCHEMA = "mnemoscope.audit/1"
SPLITS = ("train", "val", "holdout", "synthetic")
Status = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SetSize:
    """How many clips and patients a set has."""

    clips: int
    patients: int


@dataclass(frozen=True)
class Verification:
    """How well the re-identification model tells same from different, on holdout patients.

    ``confusion`` is ((true negatives, false positives), (false negatives, true positives)) at logit 0.
    """

    space: str
    preset: str
    auc: Estimate
    top1: Estimate
    tpr_at_fpr: dict[str, Estimate | None]
    accuracy: float
    f1: float
    precision: float
    recall: float
    confusion: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Privacy:
    """Who is too similar. ``fdr_flagged`` is the Benjamini–Hochberg list's length at ``fdr_rate``."""

    percentile: float
    tau: float
    flagged: int
    flag_rate: Estimate
    excess_rate: Estimate
    p_value: float
    fdr_rate: float
    fdr_flagged: int


@dataclass(frozen=True)
class TopHit:
    """A train clip and the number of gated queries whose nearest it is."""

    clip_id: str
    patient_id: str
    hits: int


@dataclass(frozen=True)
class Recall:
    """Who was learned. ``gate`` is the logit a query needs to count, null in the ``paper`` preset."""

    gate: float | None
    learned: int
    learned_share: float
    learned_and_flagged: int
    top_hits: list[TopHit]
    matched: dict[str, Any] | None = None
    chao1: Estimate | None = None
    coverage_goodturing: Estimate | None = None
    irs: Estimate | None = None


@dataclass(frozen=True)
class Verdict:
    """May the set leave? With the reasons, and what nobody looked at."""

    status: Status
    reasons: list[str]
    not_tested: list[str]


# Perturbation → {"tpr": …}, and beside them minimum_detectable_share.
Power = dict[str, dict[str, Estimate] | Estimate | None]


@dataclass(frozen=True)
class AuditResult:
    """Everything in ``audit.json`` (schema ``mnemoscope.audit/1``); a stage that did not run is None."""

    sets: dict[str, SetSize]
    reid: Verification | None
    privacy: Privacy | None
    recall: Recall | None
    verdict: Verdict
    power: Power | None = None
    consistency: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    gallery: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``audit.json``."""
        return {"schema": SCHEMA} | asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "AuditResult":
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptFile: if the values are not of this schema.
        """
        from pydantic import TypeAdapter, ValidationError  # only readers of finished audits need it

        if values.get("schema") != SCHEMA:
            raise CorruptFile(
                f"audit.json: expected schema {SCHEMA}, found {values.get('schema')}; run mnemoscope audit again"
            )
        try:
            return TypeAdapter(cls).validate_python({k: v for k, v in values.items() if k != "schema"})
        except ValidationError as error:
            raise CorruptFile(f"audit.json: expected the content of {SCHEMA}, found: {error}") from None
