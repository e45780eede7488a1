"""The ledger: per train patient, what points at them."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.audit.recall import Hits
from mnemoscope.core.types import ClipIndex, Scores


@dataclass(frozen=True)
class Ledger:
    """One row per train patient, sorted by ``patient_id``; all arrays have shape (P,).

    ``best_similarity`` is the highest logit of any synthetic clip whose nearest clip is of the patient, NaN if none.
    """

    patient_id: np.ndarray
    clips: np.ndarray
    hits: np.ndarray
    best_similarity: np.ndarray
    flagged_hits: np.ndarray
    learned: np.ndarray
    leaked: np.ndarray
    missed: np.ndarray


def patient_ledger(train_patient: np.ndarray, nearest: ClipIndex, p_max: Scores, hits: Hits) -> Ledger:
    """Sums the clips' hits by patient.

    Args:
        train_patient: patient of each train clip, (M,).
        nearest: number of the nearest train clip of each synthetic clip, (N,).
        p_max: its logit, (N,).
        hits: per train clip, (M,).
    """
    patients, code = np.unique(train_patient, return_inverse=True)
    best = np.full(len(patients), -np.inf)
    np.maximum.at(best, code[nearest], p_max)
    all_hits = np.bincount(code, weights=hits.all).astype(np.int64)
    flagged_hits = np.bincount(code, weights=hits.flagged).astype(np.int64)
    return Ledger(
        patient_id=patients,
        clips=np.bincount(code),
        hits=all_hits,
        best_similarity=np.where(np.isfinite(best), best, np.nan),
        flagged_hits=flagged_hits,
        learned=all_hits > 0,
        leaked=flagged_hits > 0,
        missed=(all_hits == 0) & (flagged_hits == 0),
    )
