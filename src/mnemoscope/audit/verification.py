"""Verification: how well logits tell pairs of one patient from pairs of two."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.audit.intervals import BOOTSTRAP_ROUNDS, patient_bootstrap
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import Estimate

FPR_LEVELS = (0.05, 0.01, 0.001)


@dataclass(frozen=True)
class PairScores:
    """Similarities of pairs, each with the patient of its first member (the unit of the bootstrap).

    Attributes:
        same: similarities of pairs of one patient, (S,).
        same_patient: (S,).
        different: similarities of pairs of two patients, (R,).
        different_patient: (R,).
    """

    same: np.ndarray
    same_patient: np.ndarray
    different: np.ndarray
    different_patient: np.ndarray

    def __post_init__(self) -> None:
        if len(self.same) == 0 or len(self.different) == 0:
            raise TooFewSamples(
                f"expected pairs of one and of two patients, found {len(self.same)} and {len(self.different)}; "
                f"add holdout patients"
            )


@dataclass(frozen=True)
class Decisions:
    """Counts and rates at a fixed threshold (the paper's Table 1 and Fig. 3)."""

    accuracy: float
    f1: float
    precision: float
    recall: float
    confusion: tuple[tuple[int, int], tuple[int, int]]


def auc(same: np.ndarray, different: np.ndarray) -> float:
    """Probability that a same-patient pair scores above a different-patient pair, ties counting one half."""
    scores = np.concatenate([same, different])
    return _weighted_auc(scores, np.arange(len(scores)) < len(same), np.ones(len(scores)))


def auc_by_patient(pairs: PairScores, *, rng: np.random.Generator, rounds: int = BOOTSTRAP_ROUNDS) -> Estimate:
    """AUC with its interval from resampling patients."""
    scores, same, patients = _joined(pairs)
    return patient_bootstrap(lambda weight: _weighted_auc(scores, same, weight), patients, rng=rng, rounds=rounds)


def tpr_at_fpr(pairs: PairScores, fpr: float, *, rng: np.random.Generator, rounds: int = BOOTSTRAP_ROUNDS) -> Estimate:
    """Share of same-patient pairs above the lowest threshold that at most ``fpr`` of the others exceed.

    Raises:
        TooFewSamples: with fewer different-patient pairs than one false positive needs.
    """
    if len(pairs.different) * fpr < 1:
        raise TooFewSamples(
            f"a false-positive rate of {fpr:g} needs at least {int(np.ceil(1 / fpr))} different-patient pairs, "
            f"got {len(pairs.different)}; add holdout patients"
        )
    scores, same, patients = _joined(pairs)

    def rate(weight: np.ndarray) -> float:
        threshold = _threshold(scores[~same], weight[~same], fpr)
        total = weight[same].sum()
        return float(weight[same][scores[same] > threshold].sum() / total) if total else float("nan")

    return patient_bootstrap(rate, patients, rng=rng, rounds=rounds)


def decisions(same: np.ndarray, different: np.ndarray, *, threshold: float = 0.0) -> Decisions:
    """What a fixed threshold decides: above it is "same"; logit 0 is probability one half."""
    tp, fp = int((same > threshold).sum()), int((different > threshold).sum())
    fn, tn = len(same) - tp, len(different) - fp
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    return Decisions((tp + tn) / (tp + tn + fp + fn), f1, precision, recall, ((tn, fp), (fn, tp)))


def top1_by_patient(
    query_patient: np.ndarray, nearest_patient: np.ndarray, *, rng: np.random.Generator, rounds: int = BOOTSTRAP_ROUNDS
) -> Estimate:
    """Share of queries whose nearest gallery clip is of the own patient, resampling patients."""
    hit = (query_patient == nearest_patient).astype(np.float64)
    return patient_bootstrap(
        lambda weight: float(np.average(hit, weights=weight)), query_patient, rng=rng, rounds=rounds
    )


def _joined(pairs: PairScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.concatenate([pairs.same, pairs.different]).astype(np.float64)
    patients = np.concatenate([pairs.same_patient, pairs.different_patient])
    return scores, np.arange(len(scores)) < len(pairs.same), patients


def _weighted_auc(scores: np.ndarray, same: np.ndarray, weight: np.ndarray) -> float:
    _, place = np.unique(scores, return_inverse=True)
    up = np.bincount(place, weights=weight * same)
    down = np.bincount(place, weights=weight * ~same)
    if up.sum() == 0 or down.sum() == 0:
        return float("nan")
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def _threshold(scores: np.ndarray, weight: np.ndarray, fpr: float) -> float:
    """Lowest of the scores that at most a share ``fpr`` of the weight exceeds."""
    order = np.argsort(-scores, kind="stable")
    ranked, mass = scores[order], np.cumsum(weight[order])
    _, first = np.unique(-ranked, return_index=True)
    above = np.concatenate([[0.0], mass])[first]
    allowed = np.flatnonzero(above <= fpr * mass[-1] + 1e-12)
    return float(ranked[first[allowed[-1]]])
