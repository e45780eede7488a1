"""Novelty: does a clip look like real ones at all? Noise has a nearest neighbour, but lies where no real frame does."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.core.types import ClipIndex, Scores

COMPONENTS = 64
FRAMES_PER_COMPONENT = 8
FAR_OUT = 3.0

Looks = Float[np.ndarray, "N K"]


@dataclass(frozen=True)
class RealFrames:
    """The subspace in which real frames vary.

    Attributes:
        mean: (K,).
        basis: orthonormal directions of largest variance, (C, K).
    """

    mean: np.ndarray
    basis: np.ndarray


def real_frames(train: Looks, *, components: int = COMPONENTS) -> RealFrames:
    """The principal subspace of train frames, of at most one component for ``FRAMES_PER_COMPONENT`` frames.

    Args:
        train: standardised pixels or latents of train frames, (N, K).
        components: at most so many.

    Raises:
        TooFewSamples: with fewer frames than one component needs.
    """
    count = min(components, len(train) // FRAMES_PER_COMPONENT, train.shape[1] - 1)
    if count < 1:
        raise TooFewSamples(
            f"what real frames look like needs at least {FRAMES_PER_COMPONENT} train frames, got {len(train)}; "
            f"add train clips or compare more frames (--train-frames)"
        )
    values = train.astype(np.float64)
    mean = values.mean(axis=0)
    _, _, directions = np.linalg.svd(values - mean, full_matrices=False)
    return RealFrames(mean, directions[:count])


def novelty(frames: Looks, real: RealFrames) -> Scores:
    """Mean square of what the subspace of real frames cannot express of each frame, (N,).

    Source: the Q statistic of Jackson and Mudholkar 1979; as a detector of novelty Hoffmann 2007.
    """
    away = frames.astype(np.float64) - real.mean
    inside = away @ real.basis.T
    return ((away - inside @ real.basis) ** 2).mean(axis=1)


def of_clips(novelty_frames: Scores, clip: ClipIndex) -> Scores:
    """Mean over the compared frames of each clip, (clips,).

    Args:
        novelty_frames: of each frame, (R,).
        clip: number of its clip, every number from 0 on present, (R,).
    """
    return np.bincount(clip, weights=novelty_frames) / np.bincount(clip)


def novelty_limit(novelty_holdout: Scores) -> float:
    """Beyond it a clip looks like no real one: Tukey's outer fence of the innocents' logarithms, Q3 + 3 (Q3 − Q1).

    Args:
        novelty_holdout: of each holdout clip, > 0, (H,).

    Raises:
        DegenerateValues: if a quarter of the innocents leave nothing unexpressed: there is no scale to measure by.

    Source: Tukey 1977, "far out" values.
    """
    lower, upper = np.percentile(novelty_holdout.astype(np.float64), [25, 75])
    if lower <= 0:
        raise DegenerateValues(
            "holdout frames are wholly expressed by train frames, so that novelty has no scale; check whether holdout "
            "clips are copies of train clips (mnemoscope check)"
        )
    return float(upper * (upper / lower) ** FAR_OUT)
