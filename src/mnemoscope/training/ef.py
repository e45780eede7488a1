"""Training an EF regressor: random windows of clips, moved a little, squared error in points of EF."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import DegenerateValues, InputError, TooFewSamples
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.ef import EfArchitecture, EfModel, EfRecord, R2Plus1D, load_weights
from mnemoscope.models.initial import named_weights
from mnemoscope.training.diffusion import mean_over
from mnemoscope.training.loop import Batch, LoopConfig, TrainingState, is_main_process, train

LEAST_CLIPS = 10
_VAL_BLOCK = 64
_CLIPS_FOR_SCALE, _FRAMES_FOR_SCALE = 128, 32


class EfTraining(Config):
    """A recipe for an EF regressor.

    Attributes:
        architecture: the network.
        start: weights to begin with: Kinetics' or a published checkpoint (.pt, .pth, .safetensors), loaded by name.
        n_frames: of a window.
        period: frames of the clip for one of the window.
        shift_px: a window is moved by up to so many pixels each way; beyond the border stands the mean gray.
        windows: of a clip that a reading averages; null takes all of them.
        draws: windows in an epoch, however many clips there are; null takes one of each clip.
        loop: length and speed.
    """

    architecture: EfArchitecture = EfArchitecture(channels=1, stem=8, widths=(16, 32, 64), blocks=1, stem_stride=4)
    start: str | None = None
    n_frames: int = Field(16, ge=1)
    period: int = Field(1, ge=1)
    shift_px: int = Field(3, ge=0)
    windows: int | None = Field(3, ge=1)
    draws: int | None = Field(800, ge=1)
    loop: LoopConfig = LoopConfig(
        epochs=20,
        batch_size=20,
        learning_rate=2e-3,
        optimizer="adamw",
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=20,
        clip_gradient_norm=100.0,
    )


def paper_training() -> EfTraining:
    """The paper's recipe, which is EchoNet-Dynamic's; ``start`` takes the Kinetics weights.

    Source: Dombrowski et al. 2024, section 4.4; Ouyang et al. 2020 for windows and shifts.
    """
    loop = LoopConfig(
        epochs=45,
        batch_size=20,
        learning_rate=1e-4,
        optimizer="sgd",
        weight_decay=1e-4,
        schedule="step",
        step_epochs=15,
    )
    return EfTraining(
        architecture=EfArchitecture(), n_frames=32, period=2, shift_px=12, windows=None, draws=None, loop=loop
    )


PRESETS = {"small": EfTraining, "paper": paper_training}
Preset = Literal["small", "paper"]
SIDE_PX = {"small": 56, "paper": 112}


class EfTask:
    """The EF stage, as the training loop wants it.

    Args:
        network: to train.
        record: what it reads.
        store: of pixels.
        clips: to train on, rows of the store's table with ``ef``.
        val: to choose the network by.
        recipe: shifts and draws.
        seed: of windows and shifts.
    """

    def __init__(
        self,
        network: R2Plus1D,
        record: EfRecord,
        store: LatentStore,
        *,
        clips: pd.DataFrame,
        val: pd.DataFrame,
        recipe: EfTraining,
        seed: int,
    ) -> None:
        self.network: nn.Module = network
        self._record, self._recipe, self._seed = record, recipe, seed
        self._frames = store.frame_pool()
        self._clips = [_spans(rows) for rows in (clips, val)]
        self._ef = [rows["ef"].to_numpy(np.float32) for rows in (clips, val)]

    def examples(self) -> int:
        """Windows in an epoch."""
        return self._recipe.draws or len(self._ef[0])

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Windows (B, 1, T, H, W) and their EF; before a clip is drawn again, all others are drawn."""
        count, shift = len(self._ef[0]), self._recipe.shift_px
        clips, windows = [], []
        for index in indices.tolist():
            order = generator(self._seed, "ef order", epoch, index // count).permutation(count)
            clip = int(order[index % count])
            draw = generator(self._seed, "ef", epoch, index)
            first, length = self._clips[0][clip]
            start = int(draw.integers(self._record.last_start(length) + 1))
            window = self._window(first, length, start)
            windows.append(shifted(window, *draw.integers(-shift, shift + 1, size=2).tolist()))
            clips.append(clip)
        return {"x": _tensor(windows), "ef": torch.from_numpy(self._ef[0][clips])}

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Mean squared error, in squared points of EF."""
        return F.mse_loss(network(batch["x"])[:, 0].float(), batch["ef"])

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """``loss``: the same error on the middle window of each val clip."""
        losses, sizes = [], []
        for first in range(0, len(self._ef[1]), _VAL_BLOCK):
            ef = torch.from_numpy(self._ef[1][first : first + _VAL_BLOCK]).to(device)
            spans = self._clips[1][first : first + _VAL_BLOCK]
            windows = [self._window(begin, length, self._record.last_start(length) // 2) for begin, length in spans]
            losses.append(F.mse_loss(network(_tensor(windows).to(device))[:, 0], ef))
            sizes.append(len(ef))
        return {"loss": mean_over(losses, sizes)}

    def _window(self, first: int, length: int, start: int) -> np.ndarray:
        numbers = np.arange(first + start, first + length)[: self._record.n_frames * self._record.period]
        return self._record.window(self._frames[numbers][:, 0], 0)


def _spans(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """First frame and number of frames of each clip."""
    return list(zip(rows["first_frame"].astype(int), rows["n_frames"].astype(int), strict=True))


def _tensor(windows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(windows))[:, None]


def shifted(window: np.ndarray, down: int, right: int) -> np.ndarray:
    """A window (T, H, W) moved by some pixels; what comes in is 0, the mean gray."""
    moved = np.zeros_like(window)
    height, width = window.shape[1:]
    to_y, to_x = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    from_y, from_x = slice(max(0, -down), height + min(0, -down)), slice(max(0, -right), width + min(0, -right))
    moved[:, to_y, to_x] = window[:, from_y, from_x]
    return moved


def train_ef(
    store: LatentStore,
    recipe: EfTraining,
    out: Path,
    *,
    clips: pd.DataFrame | None = None,
    val: pd.DataFrame | None = None,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[EfModel, TrainingState]:
    """Trains on clips of an image-space store and writes the model to ``out / "model"``.

    Args:
        store: of gray pixels.
        recipe: network, windows and length.
        out: the stage's folder; an interrupted training in it is continued.
        clips: to train on, rows of the store's table, whose ``ef`` may be others; None takes the train clips with EF.
        val: to choose the network by; None takes the val clips with EF.
        seed: of weights, order, windows and shifts.
        device: torch device.
        progress: told after every step.

    Raises:
        InputError: for a store of latents.
        TooFewSamples: with fewer than LEAST_CLIPS clips to train on, or none to choose by.
        DegenerateValues: if all have one EF.
    """
    clips, val = (_with_ef(store, split) if rows is None else rows for split, rows in (("train", clips), ("val", val)))
    require_trainable(store, clips, val)
    ef = clips["ef"].to_numpy(np.float64)
    record = _record(store, recipe, clips)
    with named_weights(seed, "ef"):
        network = R2Plus1D(recipe.architecture)
    with_head = recipe.start is not None and load_weights(network, Path(recipe.start), new_head=True)
    if not with_head:
        _begin_at_mean(network.fc, ef)
    task = EfTask(network, record, store, clips=clips, val=val, recipe=recipe, seed=seed)
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    model = EfModel(network.eval(), record)
    if is_main_process():
        model.save(out / "model")
    return model, state


def _with_ef(store: LatentStore, split: str) -> pd.DataFrame:
    rows = store.of_split(split)
    return rows[rows["ef"].notna()]


def require_trainable(store: LatentStore, clips: pd.DataFrame, val: pd.DataFrame) -> None:
    """Refuses what no regressor can be trained on.

    Raises:
        InputError: for a store of latents.
        TooFewSamples: with too few clips.
        DegenerateValues: if all have one EF.
    """
    if store.record.space != "image":
        raise InputError(
            f"{store.folder}: holds latents; an EF regressor reads pixels (mnemoscope encode --space image)"
        )
    if len(clips) < LEAST_CLIPS or len(val) == 0:
        raise TooFewSamples(
            f"{store.folder}: expected at least {LEAST_CLIPS} clips with EF to train on and one to choose the network "
            f"by, found {len(clips)} and {len(val)}; give more clips, and their EF in the table (EF)"
        )
    if np.ptp(clips["ef"].to_numpy(np.float64)) == 0:
        raise DegenerateValues(
            f"{store.folder}: expected clips of different EF, but all {len(clips)} have {clips['ef'].iloc[0]:g} %"
        )


def _record(store: LatentStore, recipe: EfTraining, clips: pd.DataFrame) -> EfRecord:
    """The scale of gray values is that of the clips trained on, as EchoNet-Dynamic has it, not of the whole store."""
    chosen = strided_frames(len(clips), min(_CLIPS_FOR_SCALE, len(clips)))
    frames = [
        store.frames(first + strided_frames(length, min(_FRAMES_FOR_SCALE, length)))
        for first, length in (_spans(clips)[i] for i in chosen)
    ]
    pixels = np.concatenate(frames).astype(np.float64)
    return EfRecord(
        architecture=recipe.architecture,
        n_frames=recipe.n_frames,
        period=recipe.period,
        windows=recipe.windows,
        height=store.frame_shape[1],
        width=store.frame_shape[2],
        mean=float(pixels.mean()),
        std=float(pixels.std()),
    )


def _begin_at_mean(layer: nn.Linear, ef: np.ndarray) -> None:
    """A head that begins with readings of the right mean and about the right spread has only the rest to learn."""
    with torch.no_grad():
        layer.bias.fill_(float(ef.mean()))
        layer.weight.mul_(float(ef.std()) / float(layer.weight.norm()))
