"""The VAE between pixels and latents: any diffusers ``AutoencoderKL``, used frame by frame."""

import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from torch import nn

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError
from mnemoscope.core.files import folder_fingerprint, read_json, value_fingerprint
from mnemoscope.core.rng import generator
from mnemoscope.latents.scaling import pixels_to_unit, unit_to_pixels
from mnemoscope.latents.store import Space

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Posterior = Literal["mean", "sample"]

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "vae"
_BATCH_FRAMES = 32
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_EXPECTED = "'bundled', a folder with config.json and diffusion_pytorch_model.safetensors, or a hub name"
_UNFIT = (AttributeError, LookupError, OSError, RuntimeError, SafetensorError, TypeError, ValueError)
_SAVE_AGAIN = "save it again with save_pretrained"


def frame_vae(
    *,
    image_channels: int = 1,
    channels: tuple[int, ...] = (16, 16, 64, 64),
    blocks: int = 1,
    norm_groups: int = 4,
) -> AutoencoderKL:
    """A VAE without attention, four latent channels; as it stands a few MB, for gray frames: 112×112 → 4×14×14.

    Args:
        image_channels: 1 (gray) or 3.
        channels: of each level, multiples of ``norm_groups``; every level but the first halves the frame.
        blocks: residual blocks of each level of the encoder; the decoder has one more.
        norm_groups: groups of the normalisation.
    """
    return AutoencoderKL(
        in_channels=image_channels,
        out_channels=image_channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=blocks,
        latent_channels=4,
        norm_num_groups=norm_groups,
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

    Attributes:
        fell_to_float32: what was computed in float32 because half precision gave NaN or infinite values: a clip's id,
            or ``decode``, each time it happened.
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
        # Kept beside half precision: what overflows there cannot be brought back.
        self._exact = copy.deepcopy(network) if self._torch_dtype != torch.float32 else network
        self.network = _ready(network, device, self._torch_dtype)
        self.device = device
        self.posterior = posterior
        self.seed = seed
        self.fell_to_float32: list[str] = []
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
        """uint8 frames (T, H, W) or (T, H, W, 3) to float16 latents (T, C, h, w), unscaled.

        A clip that half precision turns into NaN or infinite values is computed in float32 (``fell_to_float32``).
        """
        latents = self._finite(lambda: self._encode(frames, clip_id), what=clip_id)
        with np.errstate(over="ignore"):  # the store refuses infinite latents, naming the clip
            return latents.astype(np.float16)

    def _encode(self, frames: np.ndarray, clip_id: str) -> np.ndarray:
        noise = generator(self.seed, "posterior", clip_id)
        blocks = []
        for first in range(0, len(frames), _BATCH_FRAMES):
            x = self._input(frames[first : first + _BATCH_FRAMES])
            posterior = self.network.encode(x).latent_dist
            z = posterior.mean.float().cpu().numpy()
            if self.posterior == "sample":
                z += posterior.std.float().cpu().numpy() * noise.standard_normal(z.shape, dtype=np.float32)
            blocks.append(z)
        return np.concatenate(blocks)

    @torch.inference_mode()
    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Unscaled latents (T, C, h, w) to uint8 frames (T, H, W) for a gray VAE, (T, H, W, 3) else.

        Latents that half precision turns into NaN or infinite pixels are decoded in float32 (``fell_to_float32``).

        Raises:
            DegenerateValues: if float32 gives such pixels too.
        """
        pixels = self._finite(lambda: self._decode(latents), what="decode")
        if not np.isfinite(pixels).all():
            raise DegenerateValues(
                "the VAE decoded NaN or infinite pixels, in float32 too; encode the clips again, or choose another "
                "VAE (--vae)"
            )
        frames = unit_to_pixels(pixels)
        return frames[:, 0] if self.channels == 1 else frames.transpose(0, 2, 3, 1)

    def _decode(self, latents: np.ndarray) -> np.ndarray:
        blocks = []
        for first in range(0, len(latents), _BATCH_FRAMES):
            z = torch.from_numpy(latents[first : first + _BATCH_FRAMES].astype(np.float32))
            x = self.network.decode(z.to(self.device, self._torch_dtype)).sample
            blocks.append(x.float().cpu().numpy())
        return np.concatenate(blocks)

    def _finite(self, compute: Callable[[], np.ndarray], *, what: str) -> np.ndarray:
        """Falls to float32 for this call alone, so that no result depends on what was computed before it."""
        values = compute()
        half = self._torch_dtype
        if half == torch.float32 or np.isfinite(values).all():
            return values
        if not self.fell_to_float32:
            log.warning("%s: NaN or infinite values in %s; such clips are computed in float32", what, half)
        self.fell_to_float32.append(what)
        network = self.network
        self.network, self._torch_dtype = _ready(self._exact, self.device, torch.float32), torch.float32
        try:
            return compute()
        finally:
            self.network, self._torch_dtype = network, half

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


def _ready(network: Any, device: str, dtype: torch.dtype) -> Any:
    # torch's own method: diffusers' override warns about every change of precision.
    return nn.Module.to(network, device, dtype).to(memory_format=torch.channels_last).eval()


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
        CorruptFile: if the weights are damaged or do not fit their configuration.
    """
    folder = BUNDLED_FOLDER if name == BUNDLED else Path(name)
    if (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
    network = _load_network(name, folder)
    fingerprint = folder_fingerprint(folder, pattern="*.*") if folder.is_dir() else f"hub:{name}"
    return Vae(network, fingerprint=fingerprint, device=device, precision=precision, posterior=posterior, seed=seed)


def _load_network(name: str, folder: Path) -> AutoencoderKL:
    local = folder.is_dir()
    _require_vae(name, folder) if local else _require_hub_name(name)
    source: Any = folder if local else name
    try:
        network, loading = AutoencoderKL.from_pretrained(
            source, use_safetensors=True, local_files_only=local, low_cpu_mem_usage=False, output_loading_info=True
        )
    except _UNFIT as error:
        if not local:
            raise InputError(f"--vae {name}: expected {_EXPECTED}; got: {error}") from error
        raise CorruptFile(
            f"--vae {name}: expected weights that fit config.json, got: {error}; {_SAVE_AGAIN}"
        ) from error
    _require_all_weights(name, loading)
    return network


def _require_hub_name(name: str) -> None:
    if not _HUB_NAME.fullmatch(name):
        raise InputError(f"--vae {name}: expected {_EXPECTED}; there is no such folder")


def _require_vae(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"--vae {name}: expected {_EXPECTED}; the folder has no config.json")
    kind = read_json(folder / "config.json").get("_class_name")
    if kind != "AutoencoderKL":
        raise InputError(f"--vae {name}: expected a diffusers AutoencoderKL, config.json says {kind!r}; choose another")


def _require_all_weights(name: str, loading: dict[str, Any]) -> None:
    """Weights that are absent would stay random without a word."""
    wrong = {kind: names for kind in ("missing_keys", "unexpected_keys") if (names := loading[kind])}
    if wrong:
        text = ", ".join(f"{len(names)} {kind.split('_')[0]} (such as {names[0]})" for kind, names in wrong.items())
        raise CorruptFile(f"--vae {name}: expected the weights of config.json, found {text}; {_SAVE_AGAIN}")


def _torch_dtype(precision: Precision, device: str) -> torch.dtype:
    if precision == "auto":
        on_gpu = torch.device(device).type == "cuda"
        return torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
