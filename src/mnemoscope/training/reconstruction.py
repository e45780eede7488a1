"""Reconstruction: how near decoded frames come to the originals, and where their latents lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor

SSIM_WINDOW_PX = 11
_PEAK = 2.0  # of values in [−1, 1]


def psnr_db(decoded: Float[Tensor, "B C H W"], frames: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of each frame in dB, infinite where both are equal.

    Args:
        decoded: in [−1, 1]; what overshoots counts as black or white.
        frames: the originals, in [−1, 1].
    """
    error = (decoded.clamp(-1, 1) - frames).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(_PEAK**2 / error)


def ssim(decoded: Float[Tensor, "B C H W"], frames: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Structural similarity of each frame, at most 1: mean over channels and all windows that lie in the frame.

    Args:
        decoded: in [−1, 1], sides of at least 11 pixels; what overshoots counts as black or white.
        frames: the originals, in [−1, 1].

    Source: Wang et al. 2004, equation 13, Gaussian window of 11 pixels (sigma 1.5) and their constants.
    """
    # Brightness counts from black, which must therefore be 0.
    x, y = (decoded.clamp(-1, 1) + 1) / 2, (frames + 1) / 2
    values, _ = compute_ssim_and_cs(
        x,
        y,
        spatial_dims=2,
        data_range=1.0,
        kernel_size=(SSIM_WINDOW_PX,) * 2,
        kernel_sigma=(1.5, 1.5),
    )
    return values.mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Reconstruction:
    """What a VAE makes of N frames.

    Attributes:
        psnr_db: of each frame, (N,).
        ssim: of each frame, (N,).
        latents: the posterior means, (N, C, h, w).
    """

    psnr_db: np.ndarray
    ssim: np.ndarray
    latents: np.ndarray

    def latent_figures(self) -> dict[str, list[float]]:
        """Mean, standard deviation and extremes of each latent channel, over frames and cells, in float64."""
        values = self.latents.astype(np.float64)
        ways: dict[str, Any] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
        return {name: [float(v) for v in way(values, axis=(0, 2, 3))] for name, way in ways.items()}

    def to_json(self) -> dict[str, Any]:
        """Means with the 5th and 95th percentile of the frames, and the latents' figures."""
        return {
            "frames": len(self.psnr_db),
            "psnr_db": _summary(self.psnr_db),
            "ssim": _summary(self.ssim),
            "latent": self.latent_figures(),
        }


def _summary(values: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(values.astype(np.float64), [5, 95])
    return {"mean": float(values.mean(dtype=np.float64)), "p5": float(low), "p95": float(high)}


# Any: diffusers' mixins hide torch's methods from type checkers.
@torch.inference_mode()
def reconstruct(autoencoder: Any, blocks: Iterable[Float[Tensor, "B C H W"]], device: torch.device) -> Reconstruction:
    """Encodes and decodes frames by the posterior mean.

    Args:
        autoencoder: a diffusers ``AutoencoderKL`` in evaluation mode, on ``device``.
        blocks: frames in [−1, 1]; blocks may come in any sizes, at least one.
        device: torch device.
    """
    found: dict[str, list[np.ndarray]] = {"psnr_db": [], "ssim": [], "latents": []}
    for block in blocks:
        x = block.to(device)
        z = autoencoder.encode(x).latent_dist.mean
        y = autoencoder.decode(z).sample.float()
        for name, values in (("psnr_db", psnr_db(y, x)), ("ssim", ssim(y, x)), ("latents", z.float())):
            found[name].append(values.cpu().numpy())
    return Reconstruction(**{name: np.concatenate(values) for name, values in found.items()})
