"""The VAE between pixels and latents: any diffusers ``AutoencoderKL``, used frame by frame."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError
from mnemoscope.core.files import folder_fingerprint, value_fingerprint
from mnemoscope.core.rng import derive_seed
from mnemoscope.latents.scaling import pixels_to_unit, unit_to_pixels
from mnemoscope.latents.store import Space

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Posterior = Literal["mean", "sample"]

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "vae"
_BATCH_FRAMES = 32


def small_vae(*, channels: tuple[int, ...] = (16, 16, 64, 64)) -> AutoencoderKL:
    """A VAE of a few MB for gray frames: f = 8, four latent channels, 112×112 → 4×14×14, no attention."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=112,
    )


class Vae:
    """A VAE on a device: uint8 frames in, float16 latents out, and back.

    Args:
        network: the diffusers network.
        fingerprint: digest of its configuration and weights.
        device: torch device.
        precision: arithmetic; ``auto`` is bf16 where a GPU has it, else fp32.
        posterior: ``mean``, or a ``sample`` that depends on (seed, clip) only.
        seed: for ``sample``.
    """

    space: Space = "latent"
    dtype = "float16"

    def __init__(
        self,
        network: AutoencoderKL,
        *,
        fingerprint: str,
        device: str = "cpu",
        precision: Precision = "auto",
        posterior: Posterior = "mean",
        seed: int = 0,
    ) -> None:
        self._torch_dtype = _torch_dtype(precision, device)
        movable: Any = network  # diffusers' mixins hide torch's methods from type checkers
        self.network = movable.to(device, self._torch_dtype, memory_format=torch.channels_last).eval()
        self.device = device
        self.posterior = posterior
        self.seed = seed
        self.fingerprint = value_fingerprint([fingerprint, posterior, seed if posterior == "sample" else None])

    @property
    def channels(self) -> int:
        """Channels of the frames it takes: 1 (gray) or 3."""
        return int(self.network.config.in_channels)

    @property
    def factor(self) -> int:
        """Pixels per latent cell along each side."""
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    def frame_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a frame.

        Raises:
            InputError: if the size is no multiple of the VAE's factor.
        """
        if height % self.factor or width % self.factor:
            raise InputError(
                f"expected frames whose sides are multiples of {self.factor} for this VAE, got {height}×{width}; "
                f"choose another size (--set frames.height=… --set frames.width=…)"
            )
        return (int(self.network.config.latent_channels), height // self.factor, width // self.factor)

    @torch.inference_mode()
    def encode(self, frames: np.ndarray, *, clip_id: str) -> np.ndarray:
        """uint8 frames (T, H, W) or (T, H, W, 3) to float16 latents (T, C, h, w), unscaled."""
        noise = torch.Generator().manual_seed(derive_seed(self.seed, "posterior", clip_id))
        blocks = []
        for first in range(0, len(frames), _BATCH_FRAMES):
            x = self._input(frames[first : first + _BATCH_FRAMES])
            posterior = self.network.encode(x).latent_dist
            z = posterior.mean if self.posterior == "mean" else posterior.sample(generator=noise)
            blocks.append(z.float().cpu().numpy().astype(np.float16))
        return np.concatenate(blocks)

    @torch.inference_mode()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Unscaled latents (T, C, h, w) to uint8 frames (T, H, W) for a gray VAE, (T, H, W, 3) else."""
        blocks = []
        for first in range(0, len(latents), _BATCH_FRAMES):
            z = torch.from_numpy(latents[first : first + _BATCH_FRAMES].astype(np.float32))
            x = self.network.decode(z.to(self.device, self._torch_dtype)).sample.float().cpu().numpy()
            if not np.isfinite(x).all():
                raise DegenerateValues("the VAE decoded NaN or infinite pixels; use --precision fp32")
            blocks.append(unit_to_pixels(x))
        frames = np.concatenate(blocks)
        return frames[:, 0] if self.channels == 1 else frames.transpose(0, 2, 3, 1)

    def _input(self, frames: np.ndarray) -> torch.Tensor:
        planes = frames[:, None] if frames.ndim == 3 else frames.transpose(0, 3, 1, 2)
        if planes.shape[1] == 1 and self.channels == 3:
            planes = np.repeat(planes, 3, axis=1)
        if planes.shape[1] != self.channels:
            raise InputError(
                f"the VAE takes {self.channels} channel(s), the frames have {planes.shape[1]}; set frames.color to "
                f"{'gray' if self.channels == 1 else 'rgb'}"
            )
        x = torch.from_numpy(pixels_to_unit(planes))
        return x.to(self.device, self._torch_dtype, memory_format=torch.channels_last)


def load_vae(
    name: str,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    posterior: Posterior = "mean",
    seed: int = 0,
) -> Vae:
    """Loads a VAE: ``bundled``, a diffusers folder (or one with a ``vae`` sub-folder), or a hub name.

    Raises:
        InputError: if there is no such folder or model.
        CorruptFile: if the folder's weights do not fit its configuration.
    """
    folder = BUNDLED_FOLDER if name == BUNDLED else Path(name)
    if (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
    network = _load_network(name, folder)
    fingerprint = folder_fingerprint(folder, pattern="*.*") if folder.is_dir() else f"hub:{name}"
    return Vae(network, fingerprint=fingerprint, device=device, precision=precision, posterior=posterior, seed=seed)


def _load_network(name: str, folder: Path) -> AutoencoderKL:
    source: Any = folder if folder.is_dir() else name
    try:
        return AutoencoderKL.from_pretrained(
            source, use_safetensors=True, local_files_only=folder.is_dir(), low_cpu_mem_usage=False
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"--vae {name}: expected 'bundled', a folder with config.json and diffusion_pytorch_model.safetensors, "
            f"or a hub name; got: {error}"
        ) from error
    except RuntimeError as error:
        raise CorruptFile(f"--vae {name}: the weights do not fit config.json: {error}") from error


def _torch_dtype(precision: Precision, device: str) -> torch.dtype:
    if precision == "auto":
        on_gpu = torch.device(device).type == "cuda"
        return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
