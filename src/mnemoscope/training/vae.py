"""Training the VAE on frames (Eq. 1): reconstruction, perceptual, a weak pull of the latents towards a standard normal,

and a patch-GAN.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from pydantic import Field, model_validator
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.core.files import whole_folder, write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import derive_seed, generator
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.scaling import pixels_to_unit
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.initial import named_weights
from mnemoscope.models.vae import frame_vae
from mnemoscope.training.adversarial import AdversarialConfig, adversarial_loss, patch_discriminator
from mnemoscope.training.loop import Batch, LoopConfig, TrainingState, is_main_process, train
from mnemoscope.training.perceptual import Distance, PerceptualConfig, perceptual_distance
from mnemoscope.training.reconstruction import SSIM_WINDOW_PX, Reconstruction, reconstruct

Preset = Literal["small", "paper"]
HELD_OUT = "held_out.json"
HELD_OUT_FRAMES_PER_CLIP = 4
_BLOCK_FRAMES = 32
_PAPER_BATCH = 32 * 8 * 2
_PAPER_RATE_PER_EXAMPLE = 2e-6


class VaeTraining(Config):
    """A recipe for a VAE; f = 8.

    Attributes:
        image_channels: of the network; gray frames fill all 3.
        channels: of the four levels, multiples of ``norm_groups``.
        blocks: residual blocks of a level.
        norm_groups: groups of the normalisation.
        reconstruction: ``l1`` (Eq. 1 of the paper) or ``l2`` (which is what PSNR measures).
        kl_weight: weight of the KL term, both terms being sums over a frame.
        perceptual: the perceptual term.
        adversarial: the patch-GAN; None trains without one.
        frames_per_clip: random frames of each train clip in an epoch.
        val_frames: number of val frames that choose the network.
        loop: length and speed; with a patch-GAN, clipping is by the norm of both networks' gradients together.
    """

    image_channels: Literal[1, 3] = 1
    channels: tuple[int, int, int, int] = (16, 16, 64, 64)
    blocks: int = Field(1, ge=1)
    norm_groups: int = Field(4, ge=1)
    reconstruction: Literal["l1", "l2"] = "l2"
    kl_weight: float = Field(1e-6, ge=0)
    perceptual: PerceptualConfig = PerceptualConfig()
    adversarial: AdversarialConfig | None = None
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

    @model_validator(mode="after")
    def _channels_fill_groups(self) -> "VaeTraining":
        if any(c < 1 or c % self.norm_groups for c in self.channels):
            raise ValueError(f"channels: expected multiples of norm_groups={self.norm_groups}, found {self.channels}")
        return self

    @model_validator(mode="after")
    def _resting_discriminator_keeps_its_weights(self) -> "VaeTraining":
        if self.adversarial is not None and self.loop.weight_decay > 0:
            raise ValueError(
                f"loop.weight_decay: expected 0 with adversarial, whose discriminator would decay while it waits for "
                f"its start, found {self.loop.weight_decay:g}; set loop.weight_decay=0"
            )
        return self


def paper_training() -> VaeTraining:
    """The paper's VAE. Its rate is 2e-6 for each example of a batch: with another batch size, set both.

    The last network is kept, for the best PSNR is that from before the GAN. The paper says five days on eight A100,
    not how many epochs. Adam keeps its usual betas, where Rombach et al. 2022, whom the paper follows, took 0.5, 0.9.

    Source: Eq. 1 of the paper and the configuration released with it.
    """
    return VaeTraining(
        image_channels=3,
        channels=(128, 256, 256, 512),
        blocks=2,
        norm_groups=32,
        reconstruction="l1",
        kl_weight=1e-6,
        perceptual=PerceptualConfig(kind="lpips"),
        adversarial=AdversarialConfig(weight=0.5, start_step=50_001),
        loop=LoopConfig(
            epochs=1000,
            batch_size=_PAPER_BATCH,
            learning_rate=_PAPER_RATE_PER_EXAMPLE * _PAPER_BATCH,
            keep="last",
        ),
    )


PRESETS: dict[str, Callable[[], VaeTraining]] = {"small": VaeTraining, "paper": paper_training}


class VaeNetworks(nn.Module):
    """What is trained together: the autoencoder, and the discriminator if there is one."""

    # Any: diffusers' mixins hide torch's methods from type checkers.
    def __init__(self, autoencoder: Any, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.discriminator = discriminator


def vae_networks(recipe: VaeTraining, *, height: int, width: int, seed: int) -> VaeNetworks:
    """New networks, whose weights depend on the seed alone.

    Raises:
        InputError: if frames are too small for the discriminator.
    """
    with named_weights(seed, "vae"):
        autoencoder = frame_vae(
            image_channels=recipe.image_channels,
            channels=recipe.channels,
            blocks=recipe.blocks,
            norm_groups=recipe.norm_groups,
        )
    if recipe.adversarial is None:
        return VaeNetworks(autoencoder, None)
    with named_weights(seed, "discriminator"):
        discriminator = patch_discriminator(
            recipe.adversarial, image_channels=recipe.image_channels, height=height, width=width
        )
    return VaeNetworks(autoencoder, discriminator)


class VaeTask:
    """The VAE stage, as the training loop wants it. Frames are gray, 8-bit, in an image-space store."""

    def __init__(
        self, network: VaeNetworks, store: LatentStore, *, recipe: VaeTraining, perceptual: Distance | None, seed: int
    ) -> None:
        self.network: nn.Module = network
        self._recipe, self._perceptual, self._seed = recipe, perceptual, seed
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
        """Eq. 1 from a drawn latent: terms of the frame are means over pixels, the KL is weighted on that scale.

        With a patch-GAN the discriminator's own loss is part of the sum, and no gradient of it meets the autoencoder.
        """
        both: Any = network
        x = batch["frames"]
        noise = torch.Generator(x.device).manual_seed(derive_seed(self._seed, "posterior", step))
        posterior = both.autoencoder.encode(x).latent_dist
        decoded = both.autoencoder.decode(posterior.sample(generator=noise)).sample.float()
        reconstruction = self._reconstruction(decoded, x)
        loss = reconstruction + self._recipe.kl_weight * posterior.kl().mean() / x[0].numel()
        if self._recipe.adversarial is None:
            return loss
        return loss + adversarial_loss(
            both.discriminator,
            decoded,
            x,
            reconstruction=reconstruction,
            last_layer=both.autoencoder.decoder.conv_out.weight,
            config=self._recipe.adversarial,
            step=step,
        )

    def _reconstruction(self, decoded: Tensor, x: Tensor) -> Tensor:
        error = F.l1_loss(decoded, x) if self._recipe.reconstruction == "l1" else F.mse_loss(decoded, x)
        if self._perceptual is None:
            return error
        return error + self._recipe.perceptual.weight * self._perceptual(decoded, x)

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """PSNR (dB, peak 255), SSIM and the latents' mean and standard deviation by channel, on frames of val patients.

        They are decoded from the posterior mean; ``loss`` is the negative PSNR.
        """
        both: Any = network
        found = reconstruct(both.autoencoder, self._blocks(self._val), device)
        figures = {"psnr_db": float(found.psnr_db.mean()), "ssim": float(found.ssim.mean())}
        for name, values in found.latent_figures().items():
            if name in ("mean", "std"):
                figures |= {f"latent_{name}_{channel}": value for channel, value in enumerate(values)}
        return {"loss": -figures["psnr_db"]} | figures

    def held_out(self, clips: pd.DataFrame, device: torch.device) -> Reconstruction:
        """What the network makes of frames at even distance of each of these clips."""
        both: Any = self.network.eval()
        numbers = [
            first + strided_frames(count, HELD_OUT_FRAMES_PER_CLIP)
            for first, count in zip(clips["first_frame"], clips["n_frames"], strict=True)
        ]
        return reconstruct(both.autoencoder, self._blocks(np.concatenate(numbers)), device)

    def _blocks(self, numbers: np.ndarray) -> Iterator[Tensor]:
        for block in np.array_split(numbers, max(1, len(numbers) // _BLOCK_FRAMES)):
            yield self._tensor(block)

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        frames = torch.from_numpy(pixels_to_unit(self._frames[numbers]))
        return frames.expand(-1, self._recipe.image_channels, -1, -1)


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

    ``out / "held_out.json"`` has PSNR, SSIM and the latents' figures on holdout clips, or on val clips without those.

    Raises:
        InputError: if the store holds latents, or frames whose sides are too small or no multiples of the factor.
        ConfigError: if the library of the perceptual term is absent.
        TooFewSamples: without train or val clips.
    """
    height, width = _require_frames(store, factor=2 ** (len(recipe.channels) - 1))
    networks = vae_networks(recipe, height=height, width=width, seed=seed)
    task = VaeTask(networks, store, recipe=recipe, perceptual=perceptual_distance(recipe.perceptual), seed=seed)
    state = train(task, recipe.loop, out / "training", seed=seed, device=device, progress=progress)
    if is_main_process():
        write_json(out / HELD_OUT, _held_out_figures(task, store, networks))
        with whole_folder(out / "model") as temporary:
            networks.cpu().autoencoder.save_pretrained(temporary, safe_serialization=True)
    return networks.autoencoder, state


def _require_frames(store: LatentStore, *, factor: int) -> tuple[int, int]:
    if store.record.space != "image":
        raise InputError(f"{store.folder}: holds latents; a VAE trains on frames (mnemoscope encode --space image)")
    _, height, width = store.frame_shape
    if height % factor or width % factor or min(height, width) < SSIM_WINDOW_PX:
        raise InputError(
            f"{store.folder}: expected frames whose sides are multiples of {factor} and have at least "
            f"{SSIM_WINDOW_PX} pixels, found {height}×{width}; encode them in another size "
            f"(--set frames.height=… --set frames.width=…)"
        )
    return height, width


def _held_out_figures(task: VaeTask, store: LatentStore, networks: VaeNetworks) -> dict[str, Any]:
    split = "holdout" if len(store.of_split("holdout")) else "val"
    clips = store.of_split(split)
    device = next(networks.parameters()).device
    return {"split": split, "clips": len(clips)} | task.held_out(clips, device).to_json()
