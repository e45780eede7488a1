"""Features: from the latents of a store to one vector per chosen frame."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mnemoscope.core.errors import DegenerateValues, InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore

Embed = Callable[[np.ndarray], np.ndarray]
_BATCH_FRAMES = 512


@dataclass(frozen=True)
class FrameFeatures:
    """Features of some frames of some clips.

    Attributes:
        values: float32 (N, D), one row per frame.
        clip: (N,) row number into the table of clips, non-decreasing.
        frame: (N,) frame number inside the clip.
    """

    values: np.ndarray
    clip: np.ndarray
    frame: np.ndarray

    def __post_init__(self) -> None:
        if not (len(self.values) == len(self.clip) == len(self.frame)):
            raise AssertionError("one row of values, clip and frame per frame")


def strided_frames(n_frames: int, count: int | None, *, offset_share: float = 0.0) -> np.ndarray:
    """``count`` frame numbers at even distance, the first being frame 0; all frames if None or if there are fewer.

    Args:
        n_frames: frames of the clip, at least 1.
        count: how many; None means every frame.
        offset_share: in [0, 1), moves all of them by this share of their distance: 0.5 gives the frames in between.

    Raises:
        InputError: if fewer than one frame is asked for.
    """
    if count is not None and count < 1:
        raise InputError(
            f"expected at least one frame per clip, got {count}; raise it, or take all (--set …_frames=all)"
        )
    if count is None or count >= n_frames:
        return np.arange(n_frames)
    return np.floor((np.arange(count) + offset_share) * n_frames / count).astype(np.int64)


def extract_features(
    store: LatentStore,
    rows: pd.DataFrame,
    embed: Embed,
    *,
    frames_per_clip: int | None,
    offset_share: float = 0.0,
) -> FrameFeatures:
    """Features of strided frames of each clip in ``rows``; independent of batch size and order of other clips.

    Args:
        store: where the latents lie.
        rows: clips, a part of ``store.clips``.
        embed: stored frames (B, C, h, w) to features (B, D); scaling is its business.
        frames_per_clip: see :func:`strided_frames`.
        offset_share: see :func:`strided_frames`.

    Raises:
        TooFewSamples: with no clips.
        DegenerateValues: if the network returns NaN or the same vector for every frame.
    """
    if len(rows) == 0:
        raise TooFewSamples(f"{store.folder}: expected at least one clip to take features of, found none")
    latents, clips, frames = [], [], []
    values: list[np.ndarray] = []
    for number, (row, clip) in enumerate(store.clips_of(rows)):
        chosen = strided_frames(len(clip), frames_per_clip, offset_share=offset_share)
        latents.append(clip[chosen])
        clips.append(np.full(len(chosen), number, dtype=np.int64))
        frames.append(chosen)
        if sum(len(block) for block in latents) >= _BATCH_FRAMES or number == len(rows) - 1:
            values.append(embed(np.concatenate(latents)))
            latents = []
        del row
    features = FrameFeatures(np.concatenate(values), np.concatenate(clips), np.concatenate(frames))
    _check(features.values, str(store.folder))
    return features


def _check(values: np.ndarray, name: str) -> None:
    if not np.isfinite(values).all():
        raise DegenerateValues(f"{name}: the re-identification model returned NaN features; train it again")
    if len(values) > 1 and np.ptp(values, axis=0).max() < 1e-7:
        raise DegenerateValues(
            f"{name}: the re-identification model returned the same feature for all {len(values)} frames; "
            f"it learned nothing: train it longer (--set reid.loop.epochs=…) or check the clips"
        )
