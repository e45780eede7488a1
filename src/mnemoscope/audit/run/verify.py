"""Verify: how well the model tells holdout patients apart, whom it never saw."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mnemoscope.audit.intervals import patient_bootstrap
from mnemoscope.audit.run.absent import Absent, attempt
from mnemoscope.audit.run.compare import train_neighbours
from mnemoscope.audit.verification import FPR_LEVELS, PairScores, auc_by_patient, decisions, tpr_at_fpr
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate, SetSize, Verification
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.models.reid import ReidModel
from mnemoscope.search import L1, L2, Correlation, Cosine, Head, nearest, pair_scores

STRANGERS_PER_CLIP = 100
HEAD_ROUNDS = 200
RANKS = 5


def set_sizes(train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame) -> dict[str, SetSize]:
    """Clips and patients of the three sets; a synthetic clip is nobody's unless its table says so."""
    named = {"train": train, "holdout": holdout, "synthetic": synthetic}
    return {name: SetSize(len(clips), int(clips["patient_id"].nunique())) for name, clips in named.items()}


def verification(
    features: FrameFeatures, clips: pd.DataFrame, model: ReidModel, *, seed: int, absent: Absent
) -> Verification:
    """How well the model tells holdout patients apart, whom it never saw.

    Pairs of one patient: the first frame of each clip with the other frames of the patient. Pairs of two: the same
    first frame with up to ``STRANGERS_PER_CLIP`` frames of others. The decisions at logit 0 use one pair of
    each kind per clip, as in the paper's Table 1. Retrieval looks for the first frame of the own clip by its last one,
    and for a frame of the patient's other clips, the own clip left out.

    Args:
        features: several frames of each holdout clip.
        clips: the holdout's table.
        model: the re-identification model.
        seed: of strangers and resampling.
        absent: takes the reasons for heads that these features do not allow.

    Raises:
        TooFewSamples: if no clip has two frames, or there is only one patient.
    """
    patient = clips["patient_id"].to_numpy()
    head = model.network.search_head()
    rows = _pairs(features, patient, seed=seed)
    pairs = rows.scored(features.values, head)
    fixed = decisions(*rows.one_of_each(pairs))

    def rng(purpose: str) -> np.random.Generator:
        return generator(seed, "bootstrap", purpose)

    top1, top5 = (_retrieved(features, patient, head, ranks=ranks, rng=rng(f"top{ranks}")) for ranks in (1, RANKS))
    return Verification(
        space=model.network.architecture.space,
        preset=model.preset,
        auc=auc_by_patient(pairs, rng=rng("auc")),
        top1=top1,
        top5=top5,
        top1_other_clip=attempt(
            absent, "reid.top1_other_clip", lambda: _other_clip(features, patient, head, rng=rng("top1 other clip"))
        ),
        tpr_at_fpr={
            f"{fpr:g}": attempt(absent, f"reid.tpr_at_fpr.{fpr:g}", partial(_tpr, pairs, fpr, rng=rng(f"tpr {fpr:g}")))
            for fpr in FPR_LEVELS
        },
        heads=head_aucs(rows, features.values, head, seed=seed, absent=absent),
        accuracy=fixed.accuracy,
        f1=fixed.f1,
        precision=fixed.precision,
        recall=fixed.recall,
        confusion=fixed.confusion,
    )


def _tpr(pairs: PairScores, fpr: float, *, rng: np.random.Generator) -> Estimate:
    if len(pairs.different) * fpr < 1:
        raise TooFewSamples(
            f"a rate of {fpr:g} needs more pairs of different patients than {len(pairs.different)}; add holdout clips "
            f"(--real)"
        )
    return tpr_at_fpr(pairs, fpr, rng=rng)


@dataclass(frozen=True)
class PairRows:
    """Rows of features that make pairs, (S, 2) of one patient and (R, 2) of two, and the patient of every row."""

    same: np.ndarray
    different: np.ndarray
    patient: np.ndarray

    def scored(self, values: np.ndarray, head: Head) -> PairScores:
        """Similarities of the pairs under a head."""

        def score(rows: np.ndarray) -> np.ndarray:
            return pair_scores(values[rows[:, 0]], values[rows[:, 1]], head)

        of_same, of_different = self.patient[self.same[:, 0]], self.patient[self.different[:, 0]]
        return PairScores(score(self.same), of_same, score(self.different), of_different)

    def one_of_each(self, pairs: PairScores) -> tuple[np.ndarray, np.ndarray]:
        """Similarities of one pair of each kind per clip."""
        first = [np.unique(rows[:, 0], return_index=True)[1] for rows in (self.same, self.different)]
        return pairs.same[first[0]], pairs.different[first[1]]


def head_aucs(
    rows: PairRows, values: np.ndarray, trained: Head, *, seed: int, absent: Absent
) -> dict[str, Estimate | None]:
    """AUC under the trained head and under each plain way to compare features (the paper's Table 3)."""
    heads: dict[str, Head] = {"pred": trained, "l1": L1(), "l2": L2(), "corr": Correlation(), "cosine": Cosine()}

    def of(name: str, head: Head) -> Estimate:
        return auc_by_patient(rows.scored(values, head), rng=generator(seed, "head", name), rounds=HEAD_ROUNDS)

    return {name: attempt(absent, f"reid.heads.{name}", partial(of, name, head)) for name, head in heads.items()}


def _pairs(features: FrameFeatures, patient: np.ndarray, *, seed: int) -> PairRows:
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
    return PairRows(np.array(same), np.array(different), of_row)


def _strangers(of_row: np.ndarray, row: int, rng: np.random.Generator) -> np.ndarray:
    others = np.flatnonzero(of_row != of_row[row])
    return rng.permutation(others)[:STRANGERS_PER_CLIP]


def _retrieved(
    features: FrameFeatures, patient: np.ndarray, head: Head, *, ranks: int, rng: np.random.Generator
) -> Estimate:
    """Share of last frames among whose ``ranks`` nearest first frames there is one of the patient."""
    first = np.flatnonzero(np.diff(features.clip, prepend=-1))
    last = np.flatnonzero(np.diff(features.clip, append=features.clip[-1] + 1))
    query = last[first != last]
    found = nearest(features.values[query], features.values[first], head, k=min(ranks, len(first))).index
    owner = patient[features.clip[query]]
    return _share_by_patient((patient[found] == owner[:, None]).any(axis=1), owner, rng)


def _other_clip(features: FrameFeatures, patient: np.ndarray, head: Head, *, rng: np.random.Generator) -> Estimate:
    """Share of clips whose nearest other clip is of the patient, over those whose patient has one."""
    if len(np.unique(patient)) == len(patient):
        raise TooFewSamples("every holdout patient has one clip; give patients with several (--real)")
    identified = train_neighbours(features, patient, head).identified
    _, code = np.unique(patient, return_inverse=True)
    return _share_by_patient(identified, patient[np.bincount(code)[code] > 1], rng)


def _share_by_patient(hit: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> Estimate:
    values = hit.astype(np.float64)
    return patient_bootstrap(lambda weight: float(np.average(values, weights=weight)), patient, rng=rng)
