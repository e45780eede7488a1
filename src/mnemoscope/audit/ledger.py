"""The ledger: per train patient, what points at them."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from mnemoscope.audit.recall import Hits
from mnemoscope.core.errors import Mismatch
from mnemoscope.core.types import ClipIndex, Scores

RATE_NODES = 100


@dataclass(frozen=True)
class Ledger:
    """One row per train patient, sorted by ``patient_id``; all arrays have shape (P,).

    ``best_similarity`` is the highest logit of any synthetic clip whose nearest clip is of the patient, NaN if none.
    ``exposure_p`` is how likely innocents would bring as many flagged hits, see :func:`exposure_p_values`.
    """

    patient_id: np.ndarray
    clips: np.ndarray
    hits: np.ndarray
    best_similarity: np.ndarray
    flagged_hits: np.ndarray
    learned: np.ndarray
    leaked: np.ndarray
    missed: np.ndarray
    exposure_p: np.ndarray


def patient_ledger(
    train_patient: np.ndarray, nearest: ClipIndex, p_max: Scores, hits: Hits, *, exposure_p: np.ndarray
) -> Ledger:
    """Sums the clips' hits by patient.

    Args:
        train_patient: patient of each train clip, (M,).
        nearest: number of the nearest train clip of each synthetic clip, (N,).
        p_max: its logit, (N,).
        hits: per train clip, (M,).
        exposure_p: per train patient, sorted by ``patient_id``, (P,).

    Raises:
        Mismatch: where there are not as many exposure p-values as patients.
    """
    patients, code = np.unique(train_patient, return_inverse=True)
    if len(exposure_p) != len(patients):
        raise Mismatch(f"expected an exposure p-value of each of {len(patients)} train patients, got {len(exposure_p)}")
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
        exposure_p=exposure_p,
    )


def hits_by_patient(train_patient: np.ndarray, nearest: ClipIndex) -> np.ndarray:
    """How many of the queries point at each train patient, sorted by ``patient_id``, (P,).

    Args:
        train_patient: patient of each train clip, (M,).
        nearest: number of the nearest train clip of each query, (N,).
    """
    patients, code = np.unique(train_patient, return_inverse=True)
    return np.bincount(code[nearest], minlength=len(patients))


def exposure_p_values(
    flagged_hits: np.ndarray,
    holdout_hits: np.ndarray,
    clips: np.ndarray,
    *,
    n_synthetic: int,
    n_holdout: int,
    innocents_above: int,
) -> np.ndarray:
    """Per train patient: how likely innocents would bring at least as many flagged hits.

    An innocent is flagged with rate r and then points at the patient with share q. r is Beta(a + 1, H − a), as in
    :func:`~mnemoscope.audit.privacy.flag_count_p`. A few patients are the nearest of many innocents, and a small
    holdout does not show who they are, so the larger of two p-values counts: with q the patient's share of train clips,
    and with q as high as the holdout allows, Gamma(y + 1) / H where y of H innocents point at the patient. Even at
    whom none points, one in H is then expected to: with many more synthetic clips than holdout clips it takes many
    flagged hits to be exposed.

    Args:
        flagged_hits: flagged synthetic clips that point at each patient, (P,).
        holdout_hits: holdout clips, flagged or not, that point at each patient, (P,).
        clips: train clips of each patient, (P,).
        n_synthetic: synthetic clips N.
        n_holdout: holdout clips H.
        innocents_above: holdout clips above tau, a.

    Returns:
        p-values, (P,); 1 without a flagged hit. P of them are tested: to name patients, control the false discoveries
        (:func:`~mnemoscope.audit.privacy.benjamini_hochberg`). It is assumed that flagged innocents point at the same
        patients as the others do.

    Raises:
        Mismatch: where the holdout's hits are not one per holdout clip.
    """
    if holdout_hits.sum() != n_holdout:
        raise Mismatch(f"expected one nearest patient of each of {n_holdout} holdout clips, got {holdout_hits.sum()}")
    p = np.ones(len(clips))
    hit = np.flatnonzero(flagged_hits)
    chance = (np.arange(RATE_NODES) + 0.5) / RATE_NODES
    rate = stats.beta.ppf(chance, innocents_above + 1, n_holdout - innocents_above)[:, None]
    expected = n_synthetic * rate  # flagged innocents, (nodes, 1)
    by_clips = special.gammainc(flagged_hits[hit], expected * clips[hit] / clips.sum())
    by_holdout = special.betainc(flagged_hits[hit], holdout_hits[hit] + 1, expected / (n_holdout + expected))
    p[hit] = np.maximum(by_clips.mean(axis=0), by_holdout.mean(axis=0))
    return p
