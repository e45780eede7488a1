"""Training the VAE on frames: reconstruction and a weak pull of the latents towards a standard normal."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from pydantic import Field
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.core.files import whole_folder
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import derive_seed, generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.scaling import pixels_to_unit
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.initial import named_weights
from mnemoscope.models.vae import small_vae
from mnemoscope.training.loop import Batch, LoopConfig, TrainingState, is_main_process, train

Width = Annotated[int, Field(ge=4, multiple_of=4)]  # the normalisation works in four groups


class VaeTraining(Config):
    """A recipe for the small VAE.

    Attributes:
        channels: of the four levels, multiples of four; f = 8.
        reconstruction: ``l1`` (Eq. 1 of the paper) or ``l2`` (which is what PSNR measures).
        kl_weight: weight of the KL term, both terms being sums over a frame.
        frames_per_clip: random frames of each train clip in an epoch.
        val_frames: number of val frames that choose the network.
    """

    channels: tuple[Width, Width, Width, Width] = (16, 16, 64, 64)
    reconstruction: Literal["l1", "l2"] = "l2"
    kl_weight: float = Field(1e-6, ge=0)
    frames_per_clip: int = Field(8, ge=1)
    val_frames: int = Field(256, ge=1)
    loop: LoopConfig = LoopConfig(
        epochs=40,
        batch_size=16,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=100,
        clip_gradient_norm=1.0,
    )


class VaeTask:
    """The VAE stage, as the training loop wants it. Frames are gray, 8-bit, in an image-space store."""

    # Any: diffusers' mixins hide torch's methods from type checkers.
    def __init__(self, network: Any, store: LatentStore, *, recipe: VaeTraining, seed: int) -> None:
        self.network: nn.Module = network
        self._recipe, self._seed = recipe, seed
        self._frames = store.frame_pool()
        clips, val = store.of_split("train"), store.of_split("val")
        if len(clips) == 0 or len(val) == 0:
            raise TooFewSamples(
                f"{store.folder}: expected train and val clips, found {len(clips)} and {len(val)}; give shares "
                f"(--set val_share=0.15), or a table with splits (--set table.split=COLUMN)"
            )
        self._first, self._count = clips["first_frame"].to_numpy(), clips["n_frames"].to_numpy()
        every = np.concatenate([np.arange(f, f + n) for f, n in zip(val["first_frame"], val["n_frames"], strict=True)])
        self._val = every[strided_frames(len(every), recipe.val_frames)]

    def examples(self) -> int:
        """Some random frames of each clip."""
        return len(self._first) * self._recipe.frames_per_clip

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """Frames in [−1, 1]."""
        clip = indices % len(self._first)
        share = np.array([generator(self._seed, "frame", epoch, int(i)).random() for i in indices])
        return {"frames": self._tensor(self._first[clip] + (share * self._count[clip]).astype(np.int64))}

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Reconstruction from a drawn latent, mean over pixels, plus the weighted KL on the same scale."""
        x = batch["frames"]
        noise = torch.Generator(x.device).manual_seed(derive_seed(self._seed, "posterior", step))
        plain: Any = network
        posterior = plain.encode(x).latent_dist
        decoded = plain.decode(posterior.sample(generator=noise)).sample.float()
        error = F.l1_loss(decoded, x) if self._recipe.reconstruction == "l1" else F.mse_loss(decoded, x)
        return error + self._recipe.kl_weight * posterior.kl().mean() / x[0].numel()

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """PSNR (dB, peak 255, mean over frames of val patients, from the posterior mean); ``loss`` is its negative."""
        plain: Any = network
        psnr = []
        for block in np.array_split(self._val, max(1, len(self._val) // 32)):
            x = self._tensor(block).to(device)
            y = plain.decode(plain.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
            psnr.append((10 * torch.log10(4.0 / (x - y).square().mean(dim=(1, 2, 3)))).cpu().numpy())
        value = float(np.concatenate(psnr).mean())
        return {"loss": -value, "psnr_db": value}

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(pixels_to_unit(self._frames[numbers]))


def train_vae(
    store: LatentStore,
    recipe: VaeTraining,
    out: Path,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[AutoencoderKL, TrainingState]:
    """Trains on the train clips of an image-space store and writes a diffusers folder to ``out / "model"``.

    Raises:
        InputError: if the store holds latents, or frames whose sides are no multiples of the VAE's factor.
        TooFewSamples: without train or val clips.
    """
    if store.record.space != "image":
        raise InputError(f"{store.folder}: holds latents; a VAE trains on frames (mnemoscope encode --space image)")
    _, height, width = store.frame_shape
    factor = 2 ** (len(recipe.channels) - 1)
    if height % factor or width % factor:
        raise InputError(
            f"{store.folder}: expected frames whose sides are multiples of {factor}, found {height}×{width}; encode "
            f"them in another size (--set frames.height=… --set frames.width=…)"
        )
    with named_weights(seed, "vae"):
        network: Any = small_vae(channels=recipe.channels)
    task = VaeTask(network, store, recipe=recipe, seed=seed)
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    if is_main_process():
        with whole_folder(out / "model") as temporary:
            network.cpu().save_pretrained(temporary, safe_serialization=True)
    return network, state
