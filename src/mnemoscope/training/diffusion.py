"""What both diffusion models are trained on: noisy latents at drawn steps, and the error of the predicted v."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mnemoscope.core.errors import InputError, Mismatch, TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import Kind, generator_folder, load_weights, read_record

_CLASSES = "class_embedding.weight"


def noisy(schedule: Any, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x at step t, and the v to predict: v = √ᾱ·noise − √(1−ᾱ)·x.

    Args:
        schedule: the noise schedule.
        x: clean latents (B, …).
        noise: of the same shape.
        t: steps (B,), 0–999.

    Source: Salimans & Ho 2022, section 4.
    """
    alpha = schedule.alphas_cumprod.to(x.device)[t].reshape(-1, *(1,) * (x.ndim - 1))
    return alpha.sqrt() * x + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * x


def drawn_noise(seed: int, key: Sequence[str | int], shape: tuple[int, ...], *, offset: float = 0.0) -> np.ndarray:
    """Standard normal noise named by ``key``, float32.

    Args:
        seed: of the training.
        key: name of the draw.
        shape: (…, C, h, w).
        offset: weight of noise that is the same all over a channel.

    Source: offset noise as in Dombrowski et al. 2024, section 3 (LVDM: 0.1).
    """
    rng = generator(seed, *key)
    noise = rng.standard_normal(shape, dtype=np.float32)
    if not offset:
        return noise
    constant = rng.standard_normal((shape[-3], 1, 1), dtype=np.float32)
    return (noise + np.float32(offset) * constant).astype(np.float32)


class Draws:
    """Draws of N items that belong to groups: a group of n weighs n^(1 − evenness), its items share that equally.

    Args:
        groups: of each item, (N,).
        evenness: 0 draws every item as often, 1 every group.

    Attributes:
        chances: of each item, (N,); they sum to 1.
    """

    def __init__(self, groups: np.ndarray, *, evenness: float) -> None:
        _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
        weight = counts[inverse].astype(np.float64) ** -evenness
        self.chances: np.ndarray = weight / weight.sum()
        self._edges = np.cumsum(self.chances)

    def at(self, share: float) -> int:
        """The item that holds this share of all chances, ``share`` in [0, 1)."""
        return min(int(np.searchsorted(self._edges, share, side="right")), len(self._edges) - 1)


def even_steps(count: int, total: int = 1000) -> np.ndarray:
    """``count`` steps spread evenly over the schedule, so that validation sees all of it, (count,)."""
    return np.floor((np.arange(count) + 0.5) * total / count).astype(np.int64)


def begin(network: nn.Module, start: str | None, kind: Kind, store: LatentStore, classes: tuple[str, ...]) -> None:
    """Gives a fresh network the weights of the model ``start``, if one is named; its scaling constants may be others.

    An image model with classes may start from one without: every class is then as *any* was.

    Raises:
        InputError: if there is no such model.
        CorruptFile: if its weights do not fit the network.
        Mismatch: if it was trained on other classes, or on latents of another VAE or size.
    """
    if start is None:
        return
    folder = generator_folder(start, kind)
    record = read_record(folder, kind)
    record.require_latents(store, what="the model to start from")
    if record.classes not in ((), classes):
        raise Mismatch(
            f"{folder}: expected a model of the classes {classes}, found {record.classes}; start from another one"
        )
    if record.classes != classes and kind == "lidm":
        weights = {_CLASSES: torch.zeros_like(network.state_dict()[_CLASSES])}
    else:
        weights = {}
    load_weights(network, folder, beside=weights)


def train_and_val(store: LatentStore) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clips a generator is trained and validated on.

    Raises:
        InputError: for a store of pixels.
        TooFewSamples: without train or val clips.
    """
    if store.record.space != "latent":
        raise InputError(
            f"{store.folder}: holds pixels; latent diffusion trains on latents (mnemoscope encode --space latent)"
        )
    train, val = store.of_split("train"), store.of_split("val")
    if len(train) == 0 or len(val) == 0:
        raise TooFewSamples(
            f"{store.folder}: expected train and val clips, found {len(train)} and {len(val)}; give shares "
            f"(--set val_share=0.15), or a table with splits (--set table.split=COLUMN)"
        )
    return train, val


def class_numbers(clips: pd.DataFrame, column: str | None) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, sorted, and each clip's number (N,); () and zeros without a column.

    Raises:
        InputError: if the column is absent or has gaps.
    """
    if column is None:
        return (), np.zeros(len(clips), dtype=np.int64)
    if column not in clips.columns:
        raise InputError(
            f"--set classes={column}: expected a column of the clip table, found {', '.join(map(str, clips.columns))}"
        )
    if clips[column].isna().any():
        empty = clips.loc[clips[column].isna(), "clip_id"]
        remedy = " or name each folder's view (mnemoscope encode --set views.FOLDER=NAME)" if column == "view" else ""
        raise InputError(
            f"{column}: {len(empty)} clip(s) have no class, such as {empty.iloc[0]}; fill the column{remedy}"
        )
    values = clips[column].astype(str)
    names = tuple(sorted(values.unique()))
    return names, values.map({name: number for number, name in enumerate(names)}).to_numpy(dtype=np.int64)


def mean_over(losses: Sequence[Tensor], sizes: Sequence[int]) -> float:
    """Mean of per-block means, each weighing as many examples as it has."""
    total = sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True))
    return total / sum(sizes) if sizes else math.nan
