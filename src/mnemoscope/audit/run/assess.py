"""Assess: from matches to the numbers of privacy and recall, and to the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from mnemoscope.audit.copying import assign, authenticity, data_copying_test, nearer_to_train, partition
from mnemoscope.audit.hubness import hit_skewness
from mnemoscope.audit.known import chance_share, known_share
from mnemoscope.audit.ledger import Ledger, exposure_p_values, hits_by_patient, patient_ledger
from mnemoscope.audit.manifold import manifold
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.novelty import novelty_limit, of_clips
from mnemoscope.audit.privacy import privacy
from mnemoscope.audit.rarefaction import curve_steps, matched_recall, one_per_patient, rarefy
from mnemoscope.audit.recall import Hits, count_hits, gated_queries, most_hit
from mnemoscope.audit.richness import chao1, good_turing_coverage, image_retrieval_score, irs_adjusted
from mnemoscope.audit.run.absent import Absent, attempt
from mnemoscope.audit.run.compare import Compared, compare
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.stages import SetFeatures
from mnemoscope.audit.subgroups import subgroup_table
from mnemoscope.audit.threshold import recall_gate, threshold_interval
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.core.types import (
    CopyingTest,
    Estimate,
    Flags,
    Hubness,
    Manifold,
    Privacy,
    RarefactionCurve,
    Recall,
    TopHit,
)
from mnemoscope.data.manifest import COLUMNS
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.search import WeightedL1

T = TypeVar("T")
MOST_TOP_HITS = 10
MANIFOLD_CLIPS = 10_000
CELLS, HOLDOUT_PER_CELL = 20, 50
VAGUE = 0.5  # an interval wider than half of all patients would put a misleading figure before it


@dataclass(frozen=True)
class Clips:
    """The clip tables of the three sets, in the order of their features."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    synthetic: pd.DataFrame


@dataclass(frozen=True)
class LikeReal:
    """Which queries look like real clips at all; None where nobody looked, or every query counts as in the paper."""

    limit: float | None = None
    synthetic: Flags | None = None
    holdout: Flags | None = None


@dataclass(frozen=True)
class Assessed:
    """Privacy, recall and ledger, with what they were computed from; ``absent`` says why a number is None."""

    privacy: Privacy
    recall: Recall
    ledger: Ledger
    compared: Compared
    gate: float | None
    like_real: LikeReal
    absent: Absent


def assess(features: SetFeatures, clips: Clips, head: WeightedL1, *, config: AuditConfig) -> Assessed:
    """Everything that follows from features: searches, then privacy, recall and ledger.

    Args:
        features: of the three sets.
        clips: their tables.
        head: of the model.
        config: settings.
    """
    absent: Absent = {}
    owner = clips.train["patient_id"].to_numpy()
    compared = compare(features, owner, head, device=config.device)
    private = _privacy(compared, features, clips, head, config, absent)
    innocent = compared.holdout.p_max
    gate = None if config.gate_percentile is None else recall_gate(innocent, percentile=config.gate_percentile)
    like_real = LikeReal() if gate is None else _like_real(features, absent)
    hits = count_hits(
        compared.synthetic.nearest,
        compared.synthetic.p_max,
        n_gallery=len(owner),
        tau=private.tau,
        gate=gate,
        like_real=like_real.synthetic,
    )
    recall = _recall(compared, features, clips, head, hits, gate, like_real, private.tau, config, absent)
    return Assessed(private, recall, _ledger(compared, owner, hits, private.tau), compared, gate, like_real, absent)


def _like_real(features: SetFeatures, absent: Absent) -> LikeReal:
    synthetic, holdout = features.synthetic.novelty, features.holdout.novelty
    if synthetic is None or holdout is None:
        absent["recall.novelty_limit"] = "whether clips look like real ones was not measured: too few train frames"
        return LikeReal()
    of_holdout = of_clips(holdout, features.holdout.clip)
    limit = attempt(absent, "recall.novelty_limit", lambda: novelty_limit(of_holdout))
    if limit is None:
        return LikeReal()
    return LikeReal(limit, of_clips(synthetic, features.synthetic.clip) <= limit, of_holdout <= limit)


def _privacy(
    compared: Compared, features: SetFeatures, clips: Clips, head: WeightedL1, config: AuditConfig, absent: Absent
) -> Privacy:
    synthetic, holdout = compared.synthetic, compared.holdout
    base = privacy(synthetic.p_max, holdout.p_max, percentile=config.percentile, fdr_rate=config.fdr_rate)
    _, train_code = np.unique(clips.train["patient_id"].to_numpy(), return_inverse=True)
    _, holdout_code = np.unique(clips.holdout["patient_id"].to_numpy(), return_inverse=True)
    nearer = nearer_to_train(
        synthetic.p_max,
        compared.synthetic_holdout.p_max,
        nearest_train=train_code[synthetic.nearest],
        nearest_holdout=holdout_code[compared.synthetic_holdout.nearest],
        n_train=int(train_code.max()) + 1,
        n_holdout=int(holdout_code.max()) + 1,
        rng=generator(config.seed, "nearer to train"),
    )
    return Privacy(
        **vars(base)
        | {
            "tau_interval": threshold_interval(holdout.p_max, percentile=config.percentile),
            "nearer_to_train": nearer,
            "copying": attempt(absent, "privacy.copying", lambda: _copying(compared, features, head, config)),
            "authentic_share": authenticity(synthetic.p_max, synthetic.nearest, compared.train.stranger),
        }
    )


def _copying(compared: Compared, features: SetFeatures, head: WeightedL1, config: AuditConfig) -> CopyingTest:
    weight = np.abs(head.weight)
    n_cells = int(np.clip(len(compared.holdout.p_max) // HOLDOUT_PER_CELL, 1, CELLS))
    train, synthetic, holdout = (
        first_frames(part) * weight for part in (features.train, features.synthetic, features.holdout)
    )
    centres = partition(train, n_cells=n_cells, rng=generator(config.seed, "cells"))
    return data_copying_test(
        compared.synthetic.p_max, compared.holdout.p_max, assign(synthetic, centres), assign(holdout, centres)
    )


def first_frames(features: FrameFeatures) -> np.ndarray:
    """Features of the first frame of each clip, (N, D)."""
    return features.values[np.flatnonzero(np.diff(features.clip, prepend=-1))]


def _recall(
    compared: Compared,
    features: SetFeatures,
    clips: Clips,
    head: WeightedL1,
    hits: Hits,
    gate: float | None,
    like_real: LikeReal,
    tau: float,
    config: AuditConfig,
    absent: Absent,
) -> Recall:
    gallery = len(clips.train)
    gated = {
        name: gated_queries(found.p_max, gate, like)
        for name, found, like in (
            ("synthetic", compared.synthetic, like_real.synthetic),
            ("holdout", compared.holdout, like_real.holdout),
        )
    }
    innocent = np.bincount(compared.holdout.nearest[gated["holdout"]], minlength=gallery)

    patient = clips.holdout["patient_id"].to_numpy()
    # With the choices of the matched number, so that the curve goes through it.
    reached = one_per_patient(
        compared.holdout.nearest,
        gated["holdout"],
        patient=patient,
        n_gallery=gallery,
        rng=generator(config.seed, "matched recall"),
    )

    def number(name: str, compute: Callable[[], T]) -> T | None:
        return attempt(absent, f"recall.{name}", compute)

    irs = number("irs", lambda: image_retrieval_score(int(hits.learned.sum()), int(hits.all.sum()), gallery))
    own = image_retrieval_score(int((innocent > 0).sum()), int(innocent.sum()), gallery)
    learned = int(hits.learned.sum())
    return Recall(
        gate=gate,
        learned=learned,
        learned_share=learned / gallery,
        learned_and_flagged=int(hits.learned_and_flagged.sum()),
        top_hits=_top_hits(hits, clips.train),
        gated=int(gated["synthetic"].sum()),
        novelty_limit=like_real.limit,
        unlike_real=0 if like_real.synthetic is None else int((~like_real.synthetic).sum()),
        matched=number(
            "matched",
            lambda: matched_recall(
                nearest_synthetic=compared.synthetic.nearest,
                gated_synthetic=gated["synthetic"],
                nearest_holdout=compared.holdout.nearest,
                gated_holdout=gated["holdout"],
                patient_holdout=patient,
                n_gallery=gallery,
                rng=generator(config.seed, "matched recall"),
            ),
        ),
        curves={"synthetic": _curve(hits.all, compared.synthetic), "holdout": reached},
        chao1=number("chao1", lambda: chao1(hits.all)),
        coverage_goodturing=number("coverage_goodturing", lambda: good_turing_coverage(hits.all)),
        irs=irs,
        irs_adjusted=None if irs is None else number("irs_adjusted", lambda: irs_adjusted(irs, own)),
        known_share=number("known_share", lambda: _known(compared, clips, hits.flagged, innocent, tau)),
        manifold=number("manifold", lambda: _manifold(features, head, seed=config.seed)),
        hubness=number("hubness", lambda: _hubness(compared, hits.all, gated["synthetic"])),
        subgroups=subgroup_table(
            attributes(clips.train), hits.learned, hits.leaked, patients=clips.train["patient_id"].to_numpy()
        ),
    )


def _top_hits(hits: Hits, train: pd.DataFrame) -> list[TopHit]:
    clip_id, patient_id = (train[name].astype(str).tolist() for name in ("clip_id", "patient_id"))
    return [TopHit(clip_id[i], patient_id[i], int(hits.all[i])) for i in most_hit(hits.all, count=MOST_TOP_HITS)]


def _curve(hits: np.ndarray, found: Matches) -> RarefactionCurve:
    return rarefy(hits, curve_steps(len(found.p_max)), n_queries=len(found.p_max))


def _known(compared: Compared, clips: Clips, flagged_hits: np.ndarray, innocent: np.ndarray, tau: float) -> Estimate:
    """From flagged clips alone: of those below tau nobody can tell knowing from chance."""
    identified = compared.train.identified
    if len(identified) == 0:
        raise TooFewSamples(
            "the known share needs train patients with two clips or more, to learn how often a clip is taken for "
            "somebody else's; every train patient has one; where the table names patients in a column of its own, say "
            "which (--set table.patient=…)"
        )
    _, code = np.unique(clips.train["patient_id"].to_numpy(), return_inverse=True)
    by_patient = [np.bincount(code, weights=counts).astype(np.int64) for counts in (flagged_hits, innocent)]
    by_chance = chance_share(
        flagged=int((compared.synthetic.p_max > tau).sum()),
        n_synthetic=len(compared.synthetic.p_max),
        innocents_above=int((compared.holdout.p_max > tau).sum()),
        n_holdout=len(compared.holdout.p_max),
    )
    misattributed = max(by_chance, float(1 - identified.mean()))
    share = known_share(by_patient[0], null_hits=by_patient[1], misattributed_share=misattributed)
    if share.high - share.low > VAGUE:
        raise TooFewSamples(
            f"the known share could be anything from {share.low:.0%} to {share.high:.0%}: the hits do not tell a few "
            f"patients drawn often from many drawn by chance; add synthetic clips (--synthetic)"
        )
    return share


def _manifold(features: SetFeatures, head: WeightedL1, *, seed: int) -> Manifold:
    def sample(part: FrameFeatures, name: str) -> np.ndarray:
        values = first_frames(part)
        return values[np.sort(generator(seed, "manifold", name).permutation(len(values))[:MANIFOLD_CLIPS])]

    real, synthetic = sample(features.train, "train"), sample(features.synthetic, "synthetic")
    return manifold(real, synthetic, weight=np.abs(head.weight))


def _hubness(compared: Compared, hits: np.ndarray, gated: np.ndarray) -> Hubness:
    corrected = np.bincount(compared.synthetic_uncrowded.nearest[gated], minlength=len(hits))
    learned = int((corrected > 0).sum())
    return Hubness(hit_skewness(hits), hit_skewness(corrected), learned, learned / len(hits))


def attributes(train: pd.DataFrame) -> dict[str, np.ndarray]:
    """What subgroups are made of: ejection fraction, view, and whatever the table has beyond the manifest's columns."""
    known = {*COLUMNS, "first_frame"} - {"ef", "view"}
    names = [name for name in train.columns if name not in known and train[name].notna().any()]
    return {str(name): train[name].to_numpy(dtype=object) for name in names}


def _ledger(compared: Compared, owner: np.ndarray, hits: Hits, tau: float) -> Ledger:
    synthetic, holdout = compared.synthetic, compared.holdout
    exposure_p = exposure_p_values(
        hits_by_patient(owner, synthetic.nearest[synthetic.p_max > tau]),
        hits_by_patient(owner, holdout.nearest),
        hits_by_patient(owner, np.arange(len(owner))),
        n_synthetic=len(synthetic.p_max),
        n_holdout=len(holdout.p_max),
        innocents_above=int((holdout.p_max > tau).sum()),
    )
    return patient_ledger(owner, synthetic.nearest, synthetic.p_max, hits, exposure_p=exposure_p)
