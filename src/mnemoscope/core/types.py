"""The vocabulary: array shapes by letter, and what an audit returns.

Letters: B batch, T frames, C channels, H height, W width, N queries, M gallery, D features, P patients.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, MinLen
from jaxtyping import Bool, Float, Int, UInt8

from mnemoscope.core.errors import CorruptFile

Frames = UInt8[np.ndarray, "T H W *color"]
Latents = Float[np.ndarray, "T C H W"]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(0)]
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

    clips: Count
    patients: Count


@dataclass(frozen=True)
class Verification:
    """How well the re-identification model tells same from different, on holdout patients.

    ``top1`` and ``top5`` look for another frame of the same clip among the holdout, ``top1_other_clip`` for the
    patient's other clips (None where no patient has two). ``heads`` is the AUC under each way to compare features,
    None where it is undefined.
    ``confusion`` is ((true negatives, false positives), (false negatives, true positives)) at logit 0.
    """

    space: str
    preset: str
    auc: Estimate
    top1: Estimate
    tpr_at_fpr: dict[str, Estimate | None]
    accuracy: Share
    f1: Share
    precision: Share
    recall: Share
    confusion: tuple[tuple[int, int], tuple[int, int]]
    top5: Estimate | None = None
    top1_other_clip: Estimate | None = None
    heads: dict[str, Estimate | None] = field(default_factory=dict)


@dataclass(frozen=True)
class NearerToTrain:
    """Synthetic clips nearer to train than to holdout; without memorisation the share is ``null_share``, M/(M + H)."""

    share: Estimate
    null_share: Share
    p_value: Share


@dataclass(frozen=True)
class CopyingTest:
    """C_T: negative if synthetic clips lie closer to train than holdout clips do; ``p_value`` is that of copying."""

    z: float
    p_value: Share
    cells: Count


@dataclass(frozen=True)
class Evidence:
    """Structural similarity of decoded frames, for the most similar candidates.

    ``threshold`` is the similarity that innocents' nearest pairs reach in one of twenty cases; a flag is ``confirmed``
    above it and ``doubted`` below.
    """

    candidates: Count
    threshold: float
    confirmed: Count
    doubted: Count


@dataclass(frozen=True)
class Privacy:
    """Who is too similar. ``fdr_flagged`` is the Benjamini–Hochberg list's length at ``fdr_rate``.

    ``authentic_share`` is AuthPct: clips farther from their nearest train clip than that one is from the next.
    """

    percentile: float
    tau: float
    flagged: Count
    flag_rate: Estimate
    excess_rate: Estimate
    p_value: Share
    fdr_rate: Share
    fdr_flagged: Count
    tau_interval: Estimate | None = None
    nearer_to_train: NearerToTrain | None = None
    copying: CopyingTest | None = None
    authentic_share: Estimate | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class TopHit:
    """A train clip and the number of gated queries whose nearest it is."""

    clip_id: str
    patient_id: str
    hits: Count


@dataclass(frozen=True)
class RarefactionCurve:
    """Expected number of distinct train clips that ``n`` gated queries reach, with a 95 % band; lists of one length."""

    n: list[int]
    expected: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class MatchedRecall:
    """Distinct train clips reached by ``n`` synthetic and by ``n`` holdout clips, and the ratio of the two."""

    n: int
    synthetic: Estimate
    holdout: Estimate
    ratio: Estimate


@dataclass(frozen=True)
class Manifold:
    """Precision, recall, density, coverage (Naeem et al. 2020) with balls around the ``k``-th nearest."""

    k: int
    n_real: int
    n_synthetic: int
    precision: Share
    recall: Share
    density: float
    coverage: float


@dataclass(frozen=True)
class Hubness:
    """Skewness of the hits over train clips, plain and corrected for hubs, and what is learned after the correction."""

    skewness: float
    skewness_corrected: float
    learned_corrected: Count
    learned_share_corrected: Share


@dataclass(frozen=True)
class Subgroup:
    """Learned and leaked shares of the train clips of one stratum of an attribute."""

    attribute: str
    stratum: str
    clips: Count
    learned: Estimate
    leaked: Estimate


@dataclass(frozen=True)
class Recall:
    """Who was learned. ``gate`` is the logit a query needs to count, null in the ``paper`` preset.

    ``unlike_real`` synthetic clips do not count either: their novelty exceeds ``novelty_limit``, as that of noise does
    (null where nobody looked). ``known_share`` estimates the share of train patients whom the generator draws
    recognisably, clips taken for somebody else's and chance taken out.
    """

    gate: float | None
    learned: Count
    learned_share: Share
    learned_and_flagged: Count
    top_hits: list[TopHit]
    gated: Count = 0
    novelty_limit: float | None = None
    unlike_real: Count = 0
    matched: MatchedRecall | None = None
    curves: dict[str, RarefactionCurve] = field(default_factory=dict)
    chao1: Estimate | None = None
    coverage_goodturing: Estimate | None = None
    irs: Estimate | None = None
    irs_adjusted: Estimate | None = None
    known_share: Estimate | None = None
    manifold: Manifold | None = None
    hubness: Hubness | None = None
    subgroups: list[Subgroup] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Quantiles over clips of a score at each lag; lists of one length."""

    median: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Consistency:
    """Whether videos hold together: logits of frame 0 against later frames, and correlation over frame pairs.

    ``lag_share`` is the lag as a share of the clip. ``real``, ``synthetic`` and ``different`` are curves of quantiles
    (5, 50, 95 %); ``mcc`` is the mean off-diagonal correlation of each of the three. ``separation_auc`` tells whether
    frames of one real clip score above frames of two. ``frozen`` and ``jumping`` are shares of synthetic clips that
    move less, or leap further, than all but a twentieth of the real ones.
    """

    clips: dict[str, int]
    lag_share: list[float]
    real: Curve
    synthetic: Curve
    different: Curve
    separation_auc: Estimate
    mcc: dict[str, Estimate]
    frozen: Estimate
    jumping: Estimate


@dataclass(frozen=True)
class Agreement:
    """Requested against re-measured ejection fraction of ``n`` clips; ``mae`` in points of EF."""

    n: int
    r2: Estimate
    mae: Estimate


@dataclass(frozen=True)
class Labels:
    """Label fidelity. ``p_value``: how often shuffled labels would agree as well. ``reader`` names what measured.

    ``points`` are (requested, measured) of some of the clips, to draw.
    """

    reader: str
    requested_vs_measured: Agreement
    p_value: Share
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Probe:
    """A shortcut probe: logits of true and of false pairs after something other than anatomy was hidden or swapped.

    ``auc`` compares same-patient pairs with different-patient pairs, both probed; ``shift`` is the mean change of the
    logit of different-patient pairs that share the swapped thing.
    """

    auc: Estimate
    shift: Estimate


@dataclass(frozen=True)
class Verdict:
    """May the set leave? With the reasons, and what nobody looked at."""

    status: Status
    reasons: Annotated[list[str], MinLen(1)]
    not_tested: Annotated[list[str], MinLen(1)]


@dataclass(frozen=True)
class RungPower:
    """Planted copies under one change: share above tau, above the thresholds of fixed false-positive rates, and traced.

    ``right_patient`` counts copies whose nearest clip is of the copied patient. ``minimum_detectable_share`` is the
    smallest share of such copies in a set of this size that the flag rate would give away with a chance of 80 %.
    """

    copies: Count
    tpr: Estimate
    tpr_at_fpr: dict[str, Estimate | None]
    right_patient: Estimate
    minimum_detectable_share: float | None


# Rung of the ladder → its power; and as ``minimum_detectable_share`` that of copies of all rungs in equal parts.
Power = dict[str, RungPower | float | None]


def rungs(power: Power | None) -> dict[str, RungPower]:
    """The rungs of the ladder in a power."""
    return {name: rung for name, rung in (power or {}).items() if isinstance(rung, RungPower)}


@dataclass(frozen=True)
class AuditResult:
    """Everything in ``audit.json`` (schema ``mnemoscope.audit/1``); a stage that did not run is None.

    ``absent`` says of each number that is null why: ``{"recall.matched": "only one holdout clip passes the gate"}``.
    """

    sets: dict[str, SetSize]
    reid: Verification | None
    privacy: Privacy | None
    recall: Recall | None
    verdict: Verdict
    power: Power | None = None
    probes: dict[str, Probe] | None = None
    consistency: Consistency | None = None
    labels: Labels | None = None
    gallery: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

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
            found = [
                f"{'.'.join(map(str, one['loc']))}: {one['msg'].replace('Input should be', 'expected')}, "
                f"found {one['input']!a:.60}"
                for one in error.errors()
            ]
            raise CorruptFile(
                f"audit.json: expected the content of {SCHEMA}; {'; '.join(found[:5])}; run the same audit again"
            ) from None
