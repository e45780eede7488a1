"""Training the re-identification network: which frames are paired, and what is asked of their logits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import FramePool, LatentStore, Space
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import (
    Initial,
    Reid,
    ReidArchitecture,
    ReidModel,
    bundled_weights_fit,
    default_architecture,
    load_bundled_weights,
    load_imagenet_weights,
    load_published_checkpoint,
    paper_architecture,
)
from mnemoscope.training.loop import Batch, LoopConfig, TrainingState, is_main_process, train

log = logging.getLogger(__name__)

Preset = Literal["paper", "default"]
FEW_PATIENTS = 5000
_VALIDATION_ROUNDS = 4
_NO_STRANGER = -1e9  # finite, so that a row without any stranger has finite gradients under every torch


class ReidTraining(Config):
    """A resolved recipe.

    Attributes:
        preset: its name, for the record.
        architecture: the network.
        positives: ``clip``, another frame of the same clip (paper), or ``patient``, a frame of any clip of the patient,
            which lies at least a quarter of the clip away where it is the same clip.
        objective: ``pairs``, BCE on pairs that are half same, half different (paper), or ``batch``: each anchor
            against all partners of the batch, BCE balanced over both kinds plus cross-entropy over the row.
        least_pairs: clips are gone through as often in an epoch as it takes to draw so many pairs; 0 draws one pair of
            each clip (paper). With few clips an epoch of one pair each would be a single step.
        loop: length and speed.
        initial: ``random``, ``bundled`` (weights trained on phantom patients), or ``auto``: bundled where they fit and
            there are fewer than ``FEW_PATIENTS`` train patients.
        imagenet_weights: file with torchvision's ImageNet ResNet-50 weights to start from.
        checkpoint: a published re-identification checkpoint to start from.
    """

    preset: Preset = "default"
    architecture: ReidArchitecture
    positives: Literal["clip", "patient"] = "patient"
    objective: Literal["pairs", "batch"] = "batch"
    least_pairs: int = Field(0, ge=0)
    loop: LoopConfig
    initial: Literal["auto", "random", "bundled"] = "random"
    imagenet_weights: Path | None = None
    checkpoint: Path | None = None


def paper_training(*, space: Space, channels: int) -> ReidTraining:
    """The paper's recipe, with fixed scaling constants in place of per-clip ones."""
    latent = space == "latent"
    return ReidTraining(
        preset="paper",
        architecture=paper_architecture(space=space, channels=channels),
        positives="clip",
        objective="pairs",
        loop=LoopConfig(
            epochs=1000,
            batch_size=1024 if latent else 128,
            learning_rate=5e-4 if latent else 1e-4,
            patience_epochs=150 if latent else 50,
        ),
    )


def default_training(*, space: Space, channels: int) -> ReidTraining:
    """Patient-level pairs, monotone head, all pairs of a batch; sized for a few hundred to some thousand patients."""
    return ReidTraining(
        preset="default",
        architecture=default_architecture(space=space, channels=channels),
        least_pairs=1280,
        initial="auto",
        loop=LoopConfig(
            epochs=30,
            batch_size=256,
            learning_rate=1e-3,
            weight_decay=1e-2,
            optimizer="adamw",
            schedule="cosine",
            warmup_steps=20,
            clip_gradient_norm=1.0,
            patience_epochs=10,
        ),
    )


PRESETS: dict[str, Callable[..., ReidTraining]] = {"paper": paper_training, "default": default_training}


@dataclass(frozen=True)
class Pairs:
    """Frame numbers (into the store) of B pairs, and the patients they show."""

    anchor: np.ndarray
    partner: np.ndarray
    anchor_patient: np.ndarray
    partner_patient: np.ndarray


class PairSampler:
    """Draws pairs of frames; pair ``index`` of an epoch depends on (seed, epoch, index) and the clips only.

    Args:
        clips: rows of a store's clip table, sorted by clip_id.
        positives: see :class:`ReidTraining`.
        mixed: whether half of the pairs show different patients (``pairs``), or all show one (``batch``).
        seed: the run's seed.
    """

    def __init__(self, clips: pd.DataFrame, *, positives: Literal["clip", "patient"], mixed: bool, seed: int) -> None:
        self.first = clips["first_frame"].to_numpy(np.int64)
        self.count = clips["n_frames"].to_numpy(np.int64)
        self.patient, names = pd.factorize(clips["patient_id"], sort=True)
        if len(names) < 2:
            splits = "/".join(clips["split"].unique()) or "train"
            raise TooFewSamples(
                f"expected {splits} clips of at least two patients to tell apart, found {len(names)}; add clips, or "
                f"name the patients' column (--set table.patient=…) if clips of several were read as one"
            )
        self.clips_of = [np.flatnonzero(self.patient == p) for p in range(len(names))]
        self.positives, self.mixed, self.seed = positives, mixed, seed

    def __len__(self) -> int:
        return len(self.first)

    def draw(self, epoch: int, indices: np.ndarray, *, purpose: str) -> Pairs:
        """The pairs ``indices`` of an epoch; the anchor of pair i is of clip i, counted round and round."""
        rows = [self._one(int(i) % len(self), generator(self.seed, purpose, epoch, int(i))) for i in indices]
        anchor_clip, anchor, partner_clip, partner = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        return Pairs(anchor, partner, self.patient[anchor_clip], self.patient[partner_clip])

    def _one(self, clip: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        frame = int(rng.integers(self.count[clip]))
        if self.mixed and rng.random() < 0.5:
            other = self._stranger(clip, rng)
            return clip, self.first[clip] + frame, other, self.first[other] + int(rng.integers(self.count[other]))
        other = self._relative(clip, rng)
        return clip, self.first[clip] + frame, other, self.first[other] + self._other_frame(clip, frame, other, rng)

    def _stranger(self, clip: int, rng: np.random.Generator) -> int:
        """A clip of another patient, each with the same chance."""
        own = self.clips_of[self.patient[clip]]
        place = int(rng.integers(len(self) - len(own)))
        return int(place + np.searchsorted(own - np.arange(len(own)), place, side="right"))

    def _relative(self, clip: int, rng: np.random.Generator) -> int:
        own = self.clips_of[self.patient[clip]]
        if self.positives == "clip" or len(own) == 1:
            return clip
        return int(rng.choice(own))

    def _other_frame(self, clip: int, frame: int, other: int, rng: np.random.Generator) -> int:
        count = int(self.count[other])
        if other != clip or count == 1:
            return int(rng.integers(count))
        # Counted round the clip, whose two ends then count as near: no frame of a short clip is left without a partner.
        least = 1 if self.positives == "clip" else max(1, count // 4)
        return int((frame + least + rng.integers(count - 2 * least + 1)) % count)


class ReidTask:
    """The re-identification stage, as the training loop wants it.

    Args:
        network: to be trained.
        frames: stored frames of all clips; indexed with (n,) numbers gives (n, C, h, w).
        scaling: the store's constants.
        recipe: objective and positives.
        train_clips: rows to learn from.
        val_clips: rows to choose by, of other patients.
        seed: the run's seed.
    """

    def __init__(
        self,
        network: Reid,
        frames: FramePool,
        scaling: Scaling,
        *,
        recipe: ReidTraining,
        train_clips: pd.DataFrame,
        val_clips: pd.DataFrame,
        seed: int,
    ) -> None:
        mixed = recipe.objective == "pairs"
        self.network: nn.Module = network
        self._frames, self._scaling, self._mode = frames, scaling, recipe.architecture.scaling
        self._objective = pair_loss if mixed else batch_loss
        self._train = PairSampler(train_clips, positives=recipe.positives, mixed=mixed, seed=seed)
        self._val = PairSampler(val_clips, positives=recipe.positives, mixed=mixed, seed=seed)
        self._rounds = max(1, -(-recipe.least_pairs // len(self._train)))
        self._batch_size = recipe.loop.batch_size

    def examples(self) -> int:
        """As many pairs of each clip as the recipe needs."""
        return len(self._train) * self._rounds

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Scaled frames of the pairs and their patients."""
        return self._tensors(self._train.draw(epoch, indices, purpose="pairs"))

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See :func:`pair_loss` and :func:`batch_loss`."""
        del step
        assert isinstance(network, Reid)
        features = network(torch.cat([batch["anchor"], batch["partner"]])).float()
        anchor, partner = features.chunk(2)
        # Logits are small differences of many sums: half precision rounds them, and cannot hold _NO_STRANGER.
        with torch.autocast(features.device.type, enabled=False):
            return self._objective(network, anchor, partner, batch["anchor_patient"], batch["partner_patient"])

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Mean loss over the same pairs of the val patients at every epoch."""
        total, count = 0.0, 0
        for round_ in range(_VALIDATION_ROUNDS):
            for first in range(0, len(self._val), self._batch_size):
                indices = np.arange(first, min(first + self._batch_size, len(self._val)))
                pairs = self._val.draw(round_, indices, purpose="validation pairs")
                batch = {name: value.to(device) for name, value in self._tensors(pairs).items()}
                total += float(self.loss(network, batch, 0)) * len(indices)
                count += len(indices)
        return {"loss": total / count}

    def _tensors(self, pairs: Pairs) -> dict[str, Tensor]:
        def scaled(frames: np.ndarray) -> Tensor:
            return torch.from_numpy(self._scaling.apply(self._frames[frames], self._mode))

        return {
            "anchor": scaled(pairs.anchor),
            "partner": scaled(pairs.partner),
            "anchor_patient": torch.from_numpy(pairs.anchor_patient),
            "partner_patient": torch.from_numpy(pairs.partner_patient),
        }


def pair_loss(head: Reid, anchor: Tensor, partner: Tensor, anchor_patient: Tensor, partner_patient: Tensor) -> Tensor:
    """Binary cross-entropy of each pair (Eq. 2 of the paper); features (B, D), patients (B,)."""
    same = (anchor_patient == partner_patient).float()
    return F.binary_cross_entropy_with_logits(head.logits(anchor, partner), same)


def batch_loss(head: Reid, anchor: Tensor, partner: Tensor, anchor_patient: Tensor, partner_patient: Tensor) -> Tensor:
    """Every anchor against every partner of the batch; features (B, D), patients (B,).

    Binary cross-entropy, same and different weighing one half each, plus the cross-entropy of finding the own partner
    among the strangers of the batch, and the own anchor likewise, which dwells on the hardest of them.
    """
    logits = head.logit_matrix(anchor, partner)
    same = anchor_patient[:, None] == partner_patient[None]
    alike = F.softplus(-logits[same]).mean()
    apart = F.softplus(logits[~same]).mean() if not bool(same.all()) else torch.zeros_like(alike)
    own = torch.diagonal(logits)
    strangers = logits.masked_fill(same, _NO_STRANGER)
    sought = [torch.logaddexp(own, torch.logsumexp(strangers, dim=dim)) - own for dim in (0, 1)]
    return 0.5 * (alike + apart + sought[0].mean() + sought[1].mean())


@dataclass(frozen=True)
class _Joined:
    """Two pools as one: numbers from ``n_first`` on are the second's."""

    first: FramePool
    second: FramePool
    n_first: int

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        of_second = numbers >= self.n_first
        parts = [self.first[numbers[~of_second]], self.second[numbers[of_second] - self.n_first]]
        place = np.argsort(np.concatenate([np.flatnonzero(~of_second), np.flatnonzero(of_second)]))
        return np.concatenate(parts)[place]


def _joined(store: LatentStore, altered: LatentStore | None) -> tuple[FramePool, pd.DataFrame]:
    if altered is None:
        return store.frame_pool(), store.clips
    altered.require_scaling(store.record.scaling, owner="the store of the unaltered clips")
    later = altered.clips.assign(first_frame=altered.clips["first_frame"] + store.n_frames)
    pool = _Joined(store.frame_pool(), altered.frame_pool(), store.n_frames)
    return pool, pd.concat([store.clips, later], ignore_index=True)


def train_reid(
    store: LatentStore,
    recipe: ReidTraining,
    out: Path,
    *,
    altered: LatentStore | None = None,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[ReidModel, TrainingState]:
    """Trains on the store's train clips, chooses on its val clips, and writes the model to ``out / "model"``.

    Args:
        store: frames of all clips, with the scaling constants.
        recipe: what is trained and how.
        out: folder for checkpoints and the model.
        altered: altered frames of the same train and val clips, which join them as further clips of their patients.
        seed: of weights, pairs and order.
        device: torch device.
        progress: told after every step.

    Raises:
        InputError: without val clips.
        TooFewSamples: with fewer than two train or val patients.
    """
    frames, clips = _joined(store, altered)
    of_split = {name: clips[clips["split"] == name].reset_index(drop=True) for name in ("train", "val")}
    if len(of_split["val"]) == 0:
        raise InputError(f"{store.folder}: no val clips to choose the network by; give a share (--val-share 0.15)")
    network, initial = _network(recipe, store, n_patients=of_split["train"]["patient_id"].nunique(), seed=seed)
    task = ReidTask(
        network,
        frames,
        store.record.scaling,
        recipe=recipe,
        train_clips=of_split["train"],
        val_clips=of_split["val"],
        seed=seed,
    )
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    model = ReidModel(
        network,
        scaling=store.record.scaling,
        encoder=store.record.encoder,
        preset=recipe.preset,
        initial=initial,
        device=device,
    )
    if is_main_process():
        model.save(out / "model")
    return model, state


def _network(recipe: ReidTraining, store: LatentStore, *, n_patients: int, seed: int) -> tuple[Reid, Initial]:
    """The network before training, and where its weights come from."""
    with named_weights(seed, "reid"):
        network = Reid(recipe.architecture)
    encoder = store.record.encoder
    few = n_patients < FEW_PATIENTS
    fitting = recipe.initial == "auto" and few and bundled_weights_fit(recipe.architecture, encoder)
    if recipe.initial == "bundled" or fitting:
        load_bundled_weights(network, encoder=encoder)
        log.info("training begins with the bundled weights: %d train patients", n_patients)
        return network, "bundled"
    if recipe.imagenet_weights is not None:
        load_imagenet_weights(network, recipe.imagenet_weights)
    if recipe.checkpoint is not None:
        load_published_checkpoint(network, recipe.checkpoint)
    return network, "random"
