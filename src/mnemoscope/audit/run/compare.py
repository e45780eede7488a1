"""Compare: every search of an audit, from features to nearest clips."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.audit.hubness import crowding, hub_corrected_offset, with_offset
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.run.stages import SetFeatures, matches
from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.core.types import Flags, Scores
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.search import Head, WeightedL1, nearest

CROWD = 10
MOST_OWN_FRAMES = 500


@dataclass(frozen=True)
class TrainNeighbours:
    """Whom train clips resemble among train clips.

    Attributes:
        stranger: similarity of each clip to the nearest of another patient, (M,).
        crowding: mean similarity of each clip's frames to their ``CROWD`` nearest of other patients, (M,).
        identified: of each clip whose patient has another, whether the nearest other clip is of the patient, (K,).
    """

    stranger: Scores
    crowding: Scores
    identified: Flags


@dataclass(frozen=True)
class Compared:
    """The nearest clips of all queries.

    Attributes:
        synthetic: in the train gallery.
        holdout: in the train gallery.
        synthetic_holdout: synthetic clips in the holdout.
        train: train clips among themselves.
        synthetic_uncrowded: in the train gallery, hub-corrected; p_max is then no logit.
    """

    synthetic: Matches
    holdout: Matches
    synthetic_holdout: Matches
    train: TrainNeighbours
    synthetic_uncrowded: Matches


def compare(features: SetFeatures, train_patient: np.ndarray, head: WeightedL1, *, device: str = "cpu") -> Compared:
    """All searches of an audit.

    Args:
        features: of the three sets.
        train_patient: patient of each train clip, any labels, (M,).
        head: of the model.
        device: where to search.
    """
    train = train_neighbours(features.train, train_patient, head, device=device)
    charge = hub_corrected_offset(train.crowding)[features.train.clip]

    def uncrowded(query: FrameFeatures) -> Matches:
        values, gallery, weight = with_offset(query.values, features.train.values, head.weight, charge)
        shifted = FrameFeatures(gallery, features.train.clip, features.train.frame)
        charged = WeightedL1(weight=weight, bias=head.bias)
        return matches(FrameFeatures(values, query.clip, query.frame), shifted, charged, device=device)

    return Compared(
        synthetic=matches(features.synthetic, features.train, head, device=device),
        holdout=matches(features.holdout, features.train, head, device=device),
        synthetic_holdout=matches(features.synthetic, features.holdout, head, device=device),
        train=train,
        synthetic_uncrowded=uncrowded(features.synthetic),
    )


def train_neighbours(train: FrameFeatures, patient: np.ndarray, head: Head, *, device: str = "cpu") -> TrainNeighbours:
    """See :class:`TrainNeighbours`.

    Raises:
        TooFewSamples: with clips of one patient only.
        DegenerateValues: if a patient fills the gallery.
    """
    _, code = np.unique(patient, return_inverse=True)
    owner = code[train.clip]
    own_frames = int(np.bincount(owner).max())
    if own_frames > MOST_OWN_FRAMES:
        raise DegenerateValues(
            f"expected at most {MOST_OWN_FRAMES} gallery frames of one patient, found {own_frames}; compare fewer "
            f"frames (--train-frames), or name the patients' column (--set table.patient=…)"
        )
    if code.max() == 0:
        raise TooFewSamples("expected train clips of at least two patients, found one; add train clips (--real)")
    found = nearest(train.values, train.values, head, k=min(len(owner), own_frames + CROWD), device=device)
    stranger = owner[found.index] != owner[:, None]
    first = np.cumsum(stranger, axis=1)
    crowd = stranger & (first <= CROWD)
    mean = np.where(crowd, found.similarity, 0.0).sum(axis=1, dtype=np.float64) / crowd.sum(axis=1)
    return TrainNeighbours(
        stranger=_best_of_clip(np.where(stranger, found.similarity, -np.inf).max(axis=1), train.clip),
        crowding=crowding((np.bincount(train.clip, weights=mean) / np.bincount(train.clip))[:, None]),
        identified=_identified(found.index, found.similarity, train.clip, code),
    )


def _best_of_clip(similarity: np.ndarray, clip: np.ndarray) -> np.ndarray:
    best = np.full(clip.max() + 1, -np.inf)
    np.maximum.at(best, clip, similarity)
    return best


def _identified(index: np.ndarray, similarity: np.ndarray, clip: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Whether the nearest frame of another clip is of the clip's own patient, for those who have another clip."""
    other = clip[index] != clip[:, None]
    column = np.argmax(other, axis=1)
    rows = np.arange(len(clip))
    # A row without any other clip within reach has only itself: it cannot be the best of its clip.
    score = np.where(other.any(axis=1), similarity[rows, column], -np.inf)
    order = np.lexsort((-score, clip))
    best = order[np.unique(clip[order], return_index=True)[1]]
    several = np.bincount(code)[code] > 1
    right = code[clip[index[best, column[best]]]] == code
    answer: np.ndarray = right[several]
    return answer
