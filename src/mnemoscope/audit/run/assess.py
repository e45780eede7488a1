"""Assess: from features and matches to every number of an audit."""

import numpy as np
import pandas as pd

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.recall import Hits, most_hit
from mnemoscope.audit.verification import (
    FPR_LEVELS,
    PairScores,
    auc_by_patient,
    decisions,
    top1_by_patient,
    tpr_at_fpr,
)
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate, Recall, SetSize, TopHit, Verification
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.models.reid import ReidModel
from mnemoscope.search import Head, nearest, pair_scores

STRANGERS_PER_CLIP = 100
NOT_TESTED = [
    "how a copy must be changed before the audit no longer notices it (power over a ladder of perturbations)",
    "the smallest share of copies in a set of this size that would be noticed",
    "recall at equal numbers of synthetic and holdout clips",
    "whether the videos hold together over time (consistency)",
    "whether the videos show the ejection fraction that their label says",
    "whether identity is carried by sector shape, borders or burned-in text rather than by anatomy",
]


def set_sizes(train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, SetSize]:
    """Clips and patients of the three sets; a synthetic clip is nobody's unless its table says so."""
    named = {"train": train, "holdout": holdout, "synthetic": synthetic}
    return {name: SetSize(len(clips), int(clips["patient_id"].nunique())) for name, clips in named.items()}


def verification(features: FrameFeatures, clips: pd.DataFrame, model: ReidModel, *, seed: int) -> Verification:
    """How well the model tells holdout patients apart, whom it never saw.

    Pairs of one patient: the first frame of each clip with the other frames of the patient. Pairs of two: the same
    first frame with up to ``STRANGERS_PER_CLIP`` frames of others. The decisions at logit 0 use one pair of
    each kind per clip, as in the paper's Table 1. Retrieval looks for the first frame of the own clip by its last one.

    Raises:
        TooFewSamples: if no clip has two frames, or there is only one patient.
    """
    head = model.network.search_head()
    pairs, one_each = _pairs(features, clips["patient_id"].to_numpy(), head, seed=seed)
    fixed = decisions(*one_each)

    def rng(purpose: str) -> np.random.Generator:
        return generator(seed, "bootstrap", purpose)

    return Verification(
        space=model.network.architecture.space,
        preset=model.preset,
        auc=auc_by_patient(pairs, rng=rng("auc")),
        top1=_top1(features, clips["patient_id"].to_numpy(), head, rng=rng("top1")),
        tpr_at_fpr={f"{fpr:g}": _tpr_or_none(pairs, fpr, rng=rng(f"tpr {fpr:g}")) for fpr in FPR_LEVELS},
        accuracy=fixed.accuracy,
        f1=fixed.f1,
        precision=fixed.precision,
        recall=fixed.recall,
        confusion=fixed.confusion,
    )


def _tpr_or_none(pairs: PairScores, fpr: float, *, rng: np.random.Generator) -> Estimate | None:
    """None where there are too few pairs for so low a rate."""
    if len(pairs.different) * fpr < 1:
        return None
    return tpr_at_fpr(pairs, fpr, rng=rng)


def _pairs(
    features: FrameFeatures, patient: np.ndarray, head: Head, *, seed: int
) -> tuple[PairScores, tuple[np.ndarray, np.ndarray]]:
    first = np.flatnonzero(np.diff(features.clip, prepend=-1))
    of_row = patient[features.clip]
    same = [(row, other) for row in first for other in np.flatnonzero(of_row == of_row[row]) if other != row]
    different = [
        (row, other)
        for row in first
        for other in _strangers(of_row, int(row), generator(seed, "strangers", int(features.clip[row])))
    ]
    one_frame_each = len(first) == len(features.clip)
    if one_frame_each or not different:
        raise TooFewSamples(
            f"verification needs a holdout clip of at least two frames and two holdout patients, found "
            f"{len(features.clip)} frames of {len(first)} clips of {len(set(patient))} patients; "
            f"add holdout clips (--real)"
        )
    same_rows, different_rows = np.array(same), np.array(different)

    def score(rows: np.ndarray) -> np.ndarray:
        return pair_scores(features.values[rows[:, 0]], features.values[rows[:, 1]], head)

    same_score, different_score = score(same_rows), score(different_rows)
    _, same_one = np.unique(same_rows[:, 0], return_index=True)
    _, different_one = np.unique(different_rows[:, 0], return_index=True)
    pairs = PairScores(same_score, of_row[same_rows[:, 0]], different_score, of_row[different_rows[:, 0]])
    return pairs, (same_score[same_one], different_score[different_one])


def _strangers(of_row: np.ndarray, row: int, rng: np.random.Generator) -> np.ndarray:
    others = np.flatnonzero(of_row != of_row[row])
    return rng.permutation(others)[:STRANGERS_PER_CLIP]


def _top1(features: FrameFeatures, patient: np.ndarray, head: Head, *, rng: np.random.Generator) -> Estimate:
    first = np.flatnonzero(np.diff(features.clip, prepend=-1))
    last = np.flatnonzero(np.diff(features.clip, append=features.clip[-1] + 1))
    several = first != last
    found = nearest(features.values[last[several]], features.values[first], head).index[:, 0]
    return top1_by_patient(patient[features.clip[last[several]]], patient[found], rng=rng)


def recall(hits: Hits, train: pd.DataFrame, *, gate: float | None, most: int = 10) -> Recall:
    """Learned counts and the most-hit clips."""
    top = [
        TopHit(str(train["clip_id"].iloc[i]), str(train["patient_id"].iloc[i]), int(hits.all[i]))
        for i in most_hit(hits.all, count=most)
    ]
    learned = int(hits.learned.sum())
    return Recall(gate, learned, learned / len(train), int(hits.learned_and_flagged.sum()), top)


def other_frame_power(again: Matches | None, tau: float) -> Estimate | None:
    """Share of train clips, shown again by frames that are not in the gallery, which would be flagged."""
    if again is None:
        return None
    return wilson(int((again.p_max > tau).sum()), len(again.p_max))
