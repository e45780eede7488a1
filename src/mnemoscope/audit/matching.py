"""Matching: from nearest frames to the nearest clip; a clip is as similar as its best frame pair."""

from dataclasses import dataclass

import numpy as np

from mnemoscope.core.types import ClipIndex, Scores


@dataclass(frozen=True)
class Matches:
    """The nearest gallery clip of each query clip; all arrays have shape (N,).

    Attributes:
        p_max: logit of the best frame pair.
        nearest: number of the gallery clip.
        query_frame: frame of the query in that pair.
        gallery_frame: frame of the gallery clip in that pair.
    """

    p_max: Scores
    nearest: ClipIndex
    query_frame: ClipIndex
    gallery_frame: ClipIndex


def best_frame_pairs(
    similarity: Scores,
    gallery_row: ClipIndex,
    *,
    query_clip: ClipIndex,
    query_frame: ClipIndex,
    gallery_clip: ClipIndex,
    gallery_frame: ClipIndex,
) -> Matches:
    """Reduces nearest gallery frames of query frames to one match per query clip.

    Args:
        similarity: of each query frame to its nearest gallery frame, (R,).
        gallery_row: row of that gallery frame, (R,).
        query_clip: clip number of each query frame, non-decreasing, every number from 0 on present, (R,).
        query_frame: frame number of each query frame, (R,).
        gallery_clip: clip number of each gallery row, (G,).
        gallery_frame: frame number of each gallery row, (G,).

    Returns:
        Matches in the order of clip numbers; of equally similar frames the earlier one counts.
    """
    order = np.lexsort((np.arange(len(similarity)), -similarity, query_clip))
    _, first = np.unique(query_clip[order], return_index=True)
    best = order[first]
    row = gallery_row[best]
    return Matches(similarity[best].astype(np.float64), gallery_clip[row], query_frame[best], gallery_frame[row])
