"""Features: from the latents of a store to one vector per chosen frame."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mnemoscope.core.errors import DegenerateValues, InputError, TooFewSamples
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore

Embed = Callable[[np.ndarray], np.ndarray]
Measure = Callable[[np.ndarray], np.ndarray]
_BATCH_FRAMES = 512
MOST_CELLS = 16


@dataclass(frozen=True)
class FrameFeatures:
    """Features of some frames of some clips.

    Attributes:
        values: float32 (N, D), one row per frame.
        clip: (N,) row number into the table of clips, non-decreasing.
        frame: (N,) frame number inside the clip.
        novelty: (N,) how little each frame looks like a real one; None where nobody looked.
    """

    values: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    novelty: np.ndarray | None = None

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
    measure: Measure | None = None,
) -> FrameFeatures:
    """Features of strided frames of each clip in ``rows``; independent of batch size and order of other clips.

    Args:
        store: where the latents lie.
        rows: clips, a part of ``store.clips``.
        embed: stored frames (B, C, h, w) to features (B, D); scaling is its business.
        frames_per_clip: see :func:`strided_frames`.
        offset_share: see :func:`strided_frames`.
        measure: :func:`looks` of frames (B, K) to the novelty of each (B,).

    Raises:
        TooFewSamples: with no clips.
        DegenerateValues: if the network returns NaN or the same vector for every frame.
    """
    if len(rows) == 0:
        raise TooFewSamples(f"{store.folder}: expected at least one clip to take features of, found none")
    latents, clips, frames = [], [], []
    values: list[np.ndarray] = []
    novelty: list[np.ndarray] = []
    for number, (row, clip) in enumerate(store.clips_of(rows)):
        chosen = strided_frames(len(clip), frames_per_clip, offset_share=offset_share)
        latents.append(clip[chosen])
        clips.append(np.full(len(chosen), number, dtype=np.int64))
        frames.append(chosen)
        if sum(len(block) for block in latents) >= _BATCH_FRAMES or number == len(rows) - 1:
            block = np.concatenate(latents)
            values.append(embed(block))
            novelty.extend([measure(looks(block, store.record.scaling))] if measure else [])
            latents = []
        del row
    features = FrameFeatures(
        np.concatenate(values),
        np.concatenate(clips),
        np.concatenate(frames),
        np.concatenate(novelty) if measure else None,
    )
    _check(features.values, str(store.folder))
    return features


def looks(frames: np.ndarray, scaling: Scaling) -> np.ndarray:
    """What frames look like, coarsely: standardised, and averaged to at most ``MOST_CELLS`` cells a side.

    Args:
        frames: stored frames (B, C, h, w).
        scaling: the train store's constants.

    Returns:
        float32 (B, K).
    """
    values = scaling.apply(frames, "standard")
    for axis in (2, 3):
        size = values.shape[axis]
        edges = np.linspace(0, size, min(size, MOST_CELLS) + 1).round().astype(int)
        width = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(4)])
        values = np.add.reduceat(values, edges[:-1], axis=axis) / width
    return values.reshape(len(values), -1).astype(np.float32)


def _check(values: np.ndarray, name: str) -> None:
    if not np.isfinite(values).all():
        raise DegenerateValues(f"{name}: the re-identification model returned NaN features; train it again")
    if len(values) > 1 and np.ptp(values, axis=0).max() < 1e-7:
        raise DegenerateValues(
            f"{name}: the re-identification model returned the same feature for all {len(values)} frames; "
            f"it learned nothing: train it longer (--set reid.loop.epochs=…) or check the clips"
        )
