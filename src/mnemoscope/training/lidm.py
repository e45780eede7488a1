"""Training the LIDM: random frames of train clips, v-prediction, a moving average of the weights."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import GeneratorRecord, noise_schedule
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import Lidm, LidmArchitecture, build_lidm, paper_architecture, save_lidm
from mnemoscope.models.reid import load_reid
from mnemoscope.training.clusters import clip_clusters
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

_VAL_BLOCK = 128


class LidmTraining(Config):
    """A recipe for the latent image diffusion model.

    Attributes:
        architecture: the network.
        start: a model of this architecture whose weights the training begins with (``bundled`` or a folder).
        frames_per_clip: random frames of each train clip in an epoch.
        patient_evenness: 0 draws every clip as often, 1 every patient, however many clips a patient has.
        classes: column of the clip table (such as view) to condition on.
        clusters: condition on so many clusters of alike clips instead (``training/clusters.py``).
        reid: folder of the re-identification model that clusters look alike to.
        class_dropout: share of draws that are told no class.
        val_frames: number of val frames that validation looks at.
        loop: length and speed.
    """

    architecture: LidmArchitecture = LidmArchitecture()
    start: str | None = None
    frames_per_clip: int = Field(16, ge=1)
    patient_evenness: float = Field(0.0, ge=0, le=1)
    classes: str | None = None
    clusters: int | None = Field(None, ge=2)
    reid: str | None = None
    class_dropout: float = Field(0.1, ge=0, lt=1)
    val_frames: int = Field(256, ge=1)
    loop: LoopConfig = LoopConfig(
        epochs=20,
        batch_size=64,
        learning_rate=1e-3,
        optimizer="adamw",
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=100,
        clip_gradient_norm=1.0,
        ema_decay=0.999,
        keep="last",
    )

    @model_validator(mode="after")
    def _one_kind_of_class(self) -> "LidmTraining":
        if self.clusters and (self.classes or not self.reid):
            raise ValueError(
                "clusters: expected a re-identification model beside it (--set lidm.reid=FOLDER), and no classes"
            )
        return self


def paper_training() -> LidmTraining:
    """The paper's recipe: one random frame per clip, batches of 256, 500,000 steps for 7,465 clips.

    Source: Dombrowski et al. 2024, section 3.
    """
    loop = LoopConfig(
        epochs=16667,
        batch_size=256,
        learning_rate=3e-4,
        optimizer="adamw",
        weight_decay=1e-2,
        clip_gradient_norm=1.0,
        precision="fp16",
        ema_decay=0.9999,
        keep="last",
        checkpoint_every_steps=5000,
    )
    return LidmTraining(architecture=paper_architecture(), frames_per_clip=1, loop=loop)


PRESETS = {"small": LidmTraining, "paper": paper_training}
Preset = Literal["small", "paper"]


class LidmTask:
    """The LIDM stage, as the training loop wants it."""

    def __init__(
        self, network: Lidm, store: LatentStore, classes: np.ndarray, *, recipe: LidmTraining, seed: int
    ) -> None:
        self.network: nn.Module = network
        self._recipe, self._seed, self._scaling = recipe, seed, store.record.scaling
        self._schedule: Any = noise_schedule()
        self._frames = store.frame_pool()
        clips, val = train_and_val(store)
        self._first, self._count = clips["first_frame"].to_numpy(), clips["n_frames"].to_numpy()
        self._classes = classes[(store.clips["split"] == "train").to_numpy()]
        self._any = network.n_classes
        self._draws = Draws(clips["patient_id"].to_numpy(dtype=str), evenness=recipe.patient_evenness)
        every = np.concatenate([np.arange(f, f + n) for f, n in zip(val["first_frame"], val["n_frames"], strict=True)])
        chosen = strided_frames(len(every), recipe.val_frames)
        val_classes = classes[(store.clips["split"] == "val").to_numpy()]
        self._val, self._val_classes = every[chosen], np.repeat(val_classes, val["n_frames"].astype(int))[chosen]

    def examples(self) -> int:
        """Some random frames for each clip."""
        return len(self._first) * self._recipe.frames_per_clip

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Standardised latents, noise, steps and classes."""
        draws = np.array([generator(self._seed, "lidm", epoch, int(i)).random(4) for i in indices])
        clip = indices % len(self._first)
        if self._recipe.patient_evenness:
            clip = np.array([self._draws.at(share) for share in draws[:, 3]])
        numbers = self._first[clip] + (draws[:, 0] * self._count[clip]).astype(np.int64)
        classes = np.where(draws[:, 2] < self._recipe.class_dropout, self._any, self._classes[clip])
        noise = [
            drawn_noise(self._seed, ("noise", epoch, int(i)), self._frames[numbers[:1]].shape[1:]) for i in indices
        ]
        return {
            "x": self._tensor(numbers),
            "noise": torch.from_numpy(np.stack(noise)),
            "t": torch.from_numpy((draws[:, 1] * 1000).astype(np.int64)),
            "classes": torch.from_numpy(classes),
        }

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Mean squared error of v."""
        x, target = noisy(self._schedule, batch["x"], batch["noise"], batch["t"])
        return F.mse_loss(network(x, batch["t"], batch["classes"]).float(), target)

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """``loss``: error of v on val frames at steps all over the schedule, with noise that stays the same."""
        losses, sizes = [], []
        steps = even_steps(len(self._val))
        for first in range(0, len(self._val), _VAL_BLOCK):
            x = self._tensor(self._val[first : first + _VAL_BLOCK]).to(device)
            noise = np.stack([drawn_noise(self._seed, ("val", first + i), x.shape[1:]) for i in range(len(x))])
            t = torch.from_numpy(steps[first : first + len(x)]).to(device)
            noised, target = noisy(self._schedule, x, torch.from_numpy(noise).to(device), t)
            classes = torch.from_numpy(self._val_classes[first : first + len(x)]).to(device)
            losses.append(F.mse_loss(network(noised, t, classes).float(), target))
            sizes.append(len(x))
        return {"loss": mean_over(losses, sizes)}

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(self._scaling.apply(self._frames[numbers], "standard"))


def _classes_of(store: LatentStore, recipe: LidmTraining, seed: int) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, and each clip's number (N,)."""
    if recipe.clusters is None or recipe.reid is None:
        return class_numbers(store.clips, recipe.classes)
    numbers = clip_clusters(store, load_reid(Path(recipe.reid)), count=recipe.clusters, seed=seed)
    return tuple(f"{number:04d}" for number in range(recipe.clusters)), numbers


def train_lidm(
    store: LatentStore,
    recipe: LidmTraining,
    out: Path,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[Lidm, TrainingState]:
    """Trains on the train clips of a latent store and writes the model to ``out / "model"``.

    Raises:
        InputError: for a store of pixels, or a class column that is absent.
        TooFewSamples: without train or val clips.
    """
    names, classes = _classes_of(store, recipe, seed)
    with named_weights(seed, "lidm"):
        network = build_lidm(recipe.architecture, frame_shape=store.frame_shape, n_classes=len(names))
    begin(network.unet, recipe.start, "lidm", store, names)
    task = LidmTask(network, store, classes, recipe=recipe, seed=seed)
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    if is_main_process():
        record = GeneratorRecord(
            kind="lidm",
            frame_shape=store.frame_shape,
            height=store.record.height,
            width=store.record.width,
            encoder=store.record.encoder,
            scaling=store.record.scaling,
            classes=names,
        )
        save_lidm(out / "model", network, record)
    return network, state
