"""Training the LVDM: random windows, a random frame of the clip and its EF as conditions that are dropped at times.

A clip's motion is a small part of its latents' variance (a tenth on the phantom): diffused as they are, most steps of
the schedule are spent on what the shown frame tells already. Unless told otherwise, what is diffused is the motion: the
clip minus the frame that it is shown, brought to unit variance.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import GeneratorRecord, noise_schedule
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lvdm import Condition, Lvdm, LvdmArchitecture, build_lvdm, paper_architecture, save_lvdm
from mnemoscope.training.diffusion import (
    Draws,
    begin,
    class_numbers,
    drawn_noise,
    even_steps,
    mean_over,
    noisy,
    train_and_val,
)
from mnemoscope.training.loop import Batch, LoopConfig, TrainingState, is_main_process, train

_VAL_BLOCK = 8
_MOTION_CLIPS = 256
_EF_BIN_PCT = 5.0


class LvdmTraining(Config):
    """A recipe for the latent video diffusion model.

    Attributes:
        architecture: the network.
        start: a model of this architecture whose weights the training begins with (``bundled`` or a folder).
        window_frames: frames of a training window; a shorter clip is filled up, and what is filled up is not learned.
        windows_per_clip: random windows for each train clip in an epoch.
        frame_dropout: share of draws that are shown no frame.
        ef_dropout: share of draws that are told no EF.
        ef_evenness: 0 draws clips as they come; 1 draws every band of EF (5 points) equally often, so that rare EF
            values are learned too.
        anchored: diffuse the motion around the shown frame; False diffuses latents as they are (paper).
        noise_offset: weight of noise that is the same all over a channel.
        classes: column of the clip table to condition on, such as view where several cohorts are trained together.
        class_dropout: share of draws that are told no class.
        val_windows: number of val windows that validation looks at.
        loop: length and speed.
    """

    architecture: LvdmArchitecture = LvdmArchitecture()
    start: str | None = None
    window_frames: int = Field(24, ge=2)
    windows_per_clip: int = Field(2, ge=1)
    frame_dropout: float = Field(0.1, ge=0, lt=1)
    ef_dropout: float = Field(0.1, ge=0, lt=1)
    ef_evenness: float = Field(0.7, ge=0, le=1)
    anchored: bool = True
    noise_offset: float = Field(0.0, ge=0)
    classes: str | None = None
    class_dropout: float = Field(0.1, ge=0, lt=1)
    val_windows: int = Field(32, ge=1)
    loop: LoopConfig = LoopConfig(
        epochs=20,
        batch_size=6,
        learning_rate=1e-3,
        optimizer="adamw",
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=100,
        clip_gradient_norm=1.0,
        ema_decay=0.999,
        keep="last",
    )


def paper_training() -> LvdmTraining:
    """The paper's recipe: 64 frames, batches of 16 on each of 8 devices, 500,000 steps for 7,465 clips and more.

    Source: Dombrowski et al. 2024, section 3.
    """
    loop = LoopConfig(
        epochs=4700,
        batch_size=128,
        learning_rate=1e-4,
        optimizer="adamw",
        weight_decay=1e-2,
        clip_gradient_norm=1.0,
        precision="fp16",
        ema_decay=0.9999,
        keep="last",
        checkpoint_every_steps=5000,
    )
    return LvdmTraining(
        architecture=paper_architecture(),
        window_frames=64,
        windows_per_clip=1,
        ef_evenness=0.0,
        anchored=False,
        noise_offset=0.1,
        loop=loop,
    )


PRESETS = {"small": LvdmTraining, "paper": paper_training}
Preset = Literal["small", "paper"]


class LvdmTask:
    """The LVDM stage, as the training loop wants it."""

    def __init__(self, network: Lvdm, store: LatentStore, *, recipe: LvdmTraining, seed: int) -> None:
        self.network: nn.Module = network
        self._recipe, self._seed, self._scaling = recipe, seed, store.record.scaling
        self._schedule: Any = noise_schedule()
        self._frames = store.frame_pool()
        names, numbers = class_numbers(store.clips, recipe.classes)
        self._any = len(names)
        table = store.clips.assign(class_number=numbers)
        self._clips, self._val = (table[table["split"] == s].reset_index(drop=True) for s in ("train", "val"))
        self.motion_std = self._measured_motion() if recipe.anchored else None
        bands = np.floor(self._clips["ef"].to_numpy(dtype=np.float64) / _EF_BIN_PCT)
        self._draws = Draws(bands, evenness=recipe.ef_evenness)

    def examples(self) -> int:
        """Some windows for each clip."""
        return len(self._clips) * self._recipe.windows_per_clip

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Standardised windows with their conditions, noise and steps."""
        draws = [self._draw(generator(self._seed, "lvdm", epoch, int(i)), ("noise", epoch, int(i))) for i in indices]
        return _joined(draws)

    def _draw(self, rng: np.random.Generator, key: tuple[str | int, ...]) -> dict[str, np.ndarray]:
        picked = self._draws.at(rng.random())
        r = self._recipe
        window = self._window(self._clips.iloc[picked], start_share=rng.random(), frame_share=rng.random(), key=key)
        dropped = rng.random(3) < [r.frame_dropout, r.ef_dropout, r.class_dropout]
        window["frame_given"], window["ef_given"] = ~dropped[0], ~dropped[1]
        window["t"] = np.int64(rng.random() * 1000)
        if dropped[2]:
            window["classes"] = np.int64(self._any)
        return window | {"x": self._diffused(window)}

    def _diffused(self, window: dict[str, Any]) -> np.ndarray:
        """The window as the network is to make it: its motion where a frame is shown."""
        x: np.ndarray = window["x"]
        if self.motion_std is None or not window["frame_given"]:
            return x
        return ((x - window["frame"]) / np.float32(self.motion_std)).astype(np.float32)

    def _measured_motion(self) -> float:
        """Root mean square of the motion in train windows."""
        squares = []
        for number in strided_frames(len(self._clips), _MOTION_CLIPS):
            rng = generator(self._seed, "motion", int(number))
            window = self._window(
                self._clips.iloc[number],
                start_share=rng.random(),
                frame_share=rng.random(),
                key=("motion", int(number)),
            )
            squares.append(np.square(window["x"] - window["frame"], dtype=np.float64)[window["exists"]].mean())
        return float(np.sqrt(np.mean(squares))) or 1.0

    def _window(
        self, row: pd.Series, *, start_share: float, frame_share: float, key: tuple[str | int, ...]
    ) -> dict[str, Any]:
        """A window of one clip, its last frame repeated where the clip is shorter."""
        first, count, length = int(row["first_frame"]), int(row["n_frames"]), self._recipe.window_frames
        start = int(start_share * (max(0, count - length) + 1))
        numbers = first + np.minimum(start + np.arange(length), count - 1)
        shown = first + int(frame_share * count)
        x = self._scaling.apply(self._frames[np.append(numbers, shown)], "standard")
        return {
            "x": x[:-1],
            "noise": drawn_noise(self._seed, key, x[:-1].shape, offset=self._recipe.noise_offset),
            "exists": start + np.arange(length) < count,
            "frame": x[-1],
            "frame_given": np.bool_(True),
            "ef": np.float32(row["ef"]),
            "ef_given": np.bool_(True),
            "classes": np.int64(row["class_number"]),
        }

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Mean squared error of v over the frames that exist."""
        x, target = noisy(self._schedule, batch["x"], batch["noise"], batch["t"])
        error = (network(x, batch["t"], condition_of(batch)).float() - target).square().mean(dim=(2, 3, 4))  # (B, T)
        return (error * batch["exists"]).sum() / batch["exists"].sum()

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """``loss``: error of v on val windows at steps all over the schedule, with noise that stays the same."""
        rows = strided_frames(len(self._val) * 4, self._recipe.val_windows)
        steps, losses, sizes = even_steps(len(rows)), [], []
        for first in range(0, len(rows), _VAL_BLOCK):
            block = [
                self._val_window(int(number), steps[first + i]) for i, number in enumerate(rows[first:][:_VAL_BLOCK])
            ]
            batch = {name: value.to(device) for name, value in _joined(block).items()}
            losses.append(self.loss(network, batch, 0))
            sizes.append(len(block))
        return {"loss": mean_over(losses, sizes)}

    def _val_window(self, number: int, t: np.int64) -> dict[str, Any]:
        rng = generator(self._seed, "val window", number)
        row = self._val.iloc[number // 4]
        window = self._window(row, start_share=rng.random(), frame_share=rng.random(), key=("val", number))
        return window | {"t": t, "x": self._diffused(window)}


def condition_of(batch: Batch) -> Condition:
    """The conditions of a batch."""
    return Condition(**{name: batch[name] for name in Condition.__dataclass_fields__})


def _joined(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def train_lvdm(
    store: LatentStore,
    recipe: LvdmTraining,
    out: Path,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[Lvdm, TrainingState]:
    """Trains on the train clips of a latent store and writes the model to ``out / "model"``.

    Raises:
        InputError: for a store of pixels, clips of different rates, EF that is missing or outside 0–100, a class
            column that is absent, or a window that no clip fills.
        TooFewSamples: without train or val clips.
    """
    fps = _require_fit(store, recipe)
    names, _ = class_numbers(store.clips, recipe.classes)
    with named_weights(seed, "lvdm"):
        network = build_lvdm(
            recipe.architecture,
            frame_shape=store.frame_shape,
            window_frames=recipe.window_frames,
            fps=fps,
            n_classes=len(names),
        )
    begin(network.unet, recipe.start, "lvdm", store, names)
    task = LvdmTask(network, store, recipe=recipe, seed=seed)
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    if is_main_process():
        save_lvdm(out / "model", network, _record(store, recipe, names, fps, task.motion_std))
    return network, state


def _record(
    store: LatentStore, recipe: LvdmTraining, names: tuple[str, ...], fps: float, motion_std: float | None
) -> GeneratorRecord:
    ef = store.of_split("train")["ef"].to_numpy(dtype=np.float64)
    return GeneratorRecord(
        kind="lvdm",
        frame_shape=store.frame_shape,
        height=store.record.height,
        width=store.record.width,
        encoder=store.record.encoder,
        scaling=store.record.scaling,
        classes=names,
        fps=fps,
        window_frames=recipe.window_frames,
        motion_std=motion_std,
        ef_quantiles=tuple(round(float(v), 1) for v in np.percentile(ef, np.arange(0, 101, 5))),
    )


def _require_fit(store: LatentStore, recipe: LvdmTraining) -> float:
    """Frames per second of all clips; every reason against the store in one message."""
    train_clips, val = train_and_val(store)
    clips = pd.concat([train_clips, val])
    ef = clips["ef"].astype(float)
    wrong = clips.loc[~ef.between(0, 100), "clip_id"]
    longest = int(train_clips["n_frames"].max())
    fps = clips["fps"].to_numpy(dtype=np.float64) if store.record.target_fps is None else [store.record.target_fps]
    rates = np.unique(fps)  # clips without one count as a rate of their own
    problems = []
    if len(wrong):
        problems.append(
            f"expected an EF from 0 to 100 for every train and val clip, found {len(wrong)} without one, such as "
            f"{wrong.iloc[0]}; fill the column, or leave these clips out"
        )
    if longest < recipe.window_frames:
        problems.append(
            f"expected a train clip of at least {recipe.window_frames} frames, the longest has {longest}; shorten it "
            f"(--set lvdm.window_frames={max(longest, 2)})"
        )
    if len(rates) != 1 or not np.isfinite(rates[0]):
        found = ", ".join("none" if np.isnan(rate) else f"{rate:g}" for rate in rates[:3])
        problems.append(
            f"expected one frame rate for all clips, found {found}{' …' if len(rates) > 3 else ''}; encode with "
            f"--set frames.target_fps=…"
        )
    if problems:
        raise InputError(f"{store.folder}: " + "\n  ".join(problems))
    return float(rates[0])
