"""Windows: clips longer than the network's window, denoised in overlapping pieces whose overlaps are joined each step.

The labels of a piece are looked up by the clip that it was cut from. The released code of the paper lines up windows
and labels in different orders, so that at a batch of eight only 4 of 24 windows carry the EF of their clip.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mnemoscope.models.lvdm import Condition, Lvdm
from mnemoscope.sampling.samplers import Predict

Merge = Literal["blend", "paper"]


@dataclass(frozen=True)
class Windows:
    """How a clip of T frames is covered.

    Attributes:
        starts: first frame of each of K windows.
        length: frames of a window.
        weights: what each window contributes to each frame, (K, T); columns sum to 1.
    """

    starts: tuple[int, ...]
    length: int
    weights: np.ndarray


def cover(n_frames: int, window: int, *, merge: Merge = "blend") -> Windows:
    """Windows at a distance of half a window; the last one ends with the clip.

    Args:
        n_frames: frames of the clip, at least 1.
        window: frames that the network takes at once; a shorter clip is one window.
        merge: ``blend`` fades each window out towards its ends; ``paper`` keeps the first window whole and takes
            from later ones what is new.
    """
    length = min(window, n_frames)
    starts = sorted({*range(0, n_frames - length, max(1, length // 2)), n_frames - length})
    frames = np.arange(n_frames)
    inside = np.array([(frames >= s) & (frames < s + length) for s in starts])
    if merge == "paper":
        weights = (inside & (np.cumsum(inside, axis=0) == 1)).astype(np.float64)
    else:
        edge = np.array([np.minimum(frames - s + 1, s + length - frames) for s in starts])
        weights = np.where(inside, edge, 0).astype(np.float64)
    return Windows(tuple(starts), length, weights / weights.sum(axis=0))


def video_predictor(network: Lvdm, condition: Condition, windows: Windows, *, guidance: float = 1.0) -> Predict:
    """The LVDM as a sampler sees it: v of whole clips (B, T, C, h, w).

    Args:
        network: the LVDM.
        condition: of the B clips.
        windows: how their T frames are covered.
        guidance: weight of the EF: 1 is the model itself, more exaggerates what the EF changes
            (classifier-free guidance; Ho & Salimans 2022).
    """
    index = torch.tensor([range(s, s + windows.length) for s in windows.starts])  # (K, L)
    weights = torch.from_numpy(windows.weights.astype(np.float32))

    def predict(x: Tensor, t: Tensor, _: int) -> Tensor:
        owner = torch.arange(len(x), device=x.device).repeat_interleave(len(windows.starts))  # piece → its clip
        pieces = x[:, index.to(x.device)].flatten(0, 1)  # (B·K, L, C, h, w)
        v = _guided(network, pieces, t[owner], condition.of(owner), guidance).unflatten(0, (len(x), -1))
        joined = torch.zeros_like(x)
        for k, start in enumerate(windows.starts):
            part = slice(start, start + windows.length)
            joined[:, part] += v[:, k] * weights[k, part].to(x.device)[:, None, None, None]
        return joined

    return predict


def _guided(network: Lvdm, x: Tensor, t: Tensor, condition: Condition, guidance: float) -> Tensor:
    with_ef: Tensor = network(x, t, condition)
    if guidance == 1.0:
        return with_ef
    without: Tensor = network(x, t, condition.without_ef())
    return without + guidance * (with_ef - without)
