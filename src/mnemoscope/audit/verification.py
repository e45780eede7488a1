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
    ranked = _Ranked.of(same, different)
    return ranked.auc(np.ones(len(ranked.place)))


def auc_by_patient(pairs: PairScores, *, rng: np.random.Generator, rounds: int = BOOTSTRAP_ROUNDS) -> Estimate:
    """AUC with its interval from resampling patients."""
    ranked = _Ranked.of(pairs.same, pairs.different)
    return patient_bootstrap(ranked.auc, _patients(pairs), rng=rng, rounds=rounds)


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
    ranked = _Ranked.of(pairs.same, pairs.different)
    return patient_bootstrap(lambda weight: ranked.tpr(weight, fpr), _patients(pairs), rng=rng, rounds=rounds)


def decisions(same: np.ndarray, different: np.ndarray, *, threshold: float = 0.0) -> Decisions:
    """What a fixed threshold decides: above it is "same"; logit 0 is probability one half."""
    tp, fp = int((same > threshold).sum()), int((different > threshold).sum())
    fn, tn = len(same) - tp, len(different) - fp
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    return Decisions((tp + tn) / (tp + tn + fp + fn), f1, precision, recall, ((tn, fp), (fn, tp)))


def _patients(pairs: PairScores) -> np.ndarray:
    return np.concatenate([pairs.same_patient, pairs.different_patient])


@dataclass(frozen=True)
class _Ranked:
    """Pairs by their place among the distinct scores, lowest 0; sorted once, weighed anew by each resample.

    Attributes:
        place: same-patient pairs first, (S + R,).
        n_same: S.
        n_places: number of distinct scores K.
    """

    place: np.ndarray
    n_same: int
    n_places: int

    @classmethod
    def of(cls, same: np.ndarray, different: np.ndarray) -> "_Ranked":
        distinct, place = np.unique(np.concatenate([same, different]).astype(np.float64), return_inverse=True)
        return cls(place, len(same), len(distinct))

    def mass(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of same and of different pairs at each place, (K,) each; ``weight`` is (S + R,)."""
        kinds = (slice(None, self.n_same), slice(self.n_same, None))
        same, different = (np.bincount(self.place[k], weights=weight[k], minlength=self.n_places) for k in kinds)
        return same, different

    def auc(self, weight: np.ndarray) -> float:
        """NaN if all pairs of weight are of one kind."""
        same, different = self.mass(weight)
        if same.sum() == 0 or different.sum() == 0:
            return float("nan")
        below = np.cumsum(different) - different
        return float((same * (below + different / 2)).sum() / (same.sum() * different.sum()))

    def tpr(self, weight: np.ndarray, fpr: float) -> float:
        """Share of same pairs above the lowest score that at most a share ``fpr`` of the different ones exceeds."""
        same, different = self.mass(weight)
        if same.sum() == 0:
            return float("nan")
        above = different.sum() - np.cumsum(different)
        threshold = int(np.argmax(above <= fpr * different.sum() + 1e-12))
        return float(same[threshold + 1 :].sum() / same.sum())
