"""Phantom EF: reads the ejection fraction off the frames of a phantom clip, real or generated.

A small network sees one frame at a time and gives the log of the left ventricle's volume up to a constant of the clip;
the ejection fraction follows from its smallest and largest value. It is trained on phantom frames of all three views
(``python -m benchmarks.phantom_ef --train``) and knows nothing of any other ultrasound.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mnemoscope.core.errors import InputError
from mnemoscope.core.types import Frames, Scores

BUNDLED_FILE = Path(__file__).parent / "bundled" / "phantom_ef" / "model.safetensors"
SIDE_PX = 112
SLOWEST_BEAT_S = 60 / 52
_BATCH_FRAMES = 64


class VolumeNet(nn.Module):
    """Gray frames (B, 1, 56, 56) in [0, 1] to log volumes (B,), each clip's up to a constant."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, after, 5 if before == 1 else 3, stride=2, padding=2 if before == 1 else 1)]
            layers += [nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Log volumes."""
        return self.layers(frames)[:, 0]


def network_input(frames: Frames) -> Tensor:
    """uint8 frames (T, 112, 112) or (T, 112, 112, 3) to float32 (T, 1, 56, 56) in [0, 1], by means of 2 × 2 pixels.

    Raises:
        InputError: for frames of another size.
    """
    if frames.ndim not in (3, 4) or frames.shape[1:3] != (SIDE_PX, SIDE_PX):
        raise InputError(
            f"the phantom's EF is read from frames of {SIDE_PX}×{SIDE_PX}, got shape {frames.shape}; decode at "
            f"that size (--set frames.height={SIDE_PX} --set frames.width={SIDE_PX}) or choose another reader"
        )
    gray = torch.from_numpy(frames).float()
    gray = gray.mean(dim=-1) if gray.ndim == 4 else gray
    return nn.functional.avg_pool2d(gray[:, None] / 255, 2)


@torch.inference_mode()
def measure_log_volumes(frames: Frames) -> Scores:
    """Log of the left ventricle's volume in each frame up to a constant of the clip, float64 (T,).

    Args:
        frames: decoded frames of a phantom clip of any view, uint8, (T, 112, 112) or (T, 112, 112, 3).

    Raises:
        InputError: for frames of another size.
    """
    network = _bundled()
    blocks = [network(block) for block in network_input(frames).split(_BATCH_FRAMES)]
    return torch.cat(blocks).numpy().astype(np.float64)


def measure_ef(frames: Frames, fps: float) -> float:
    """Ejection fraction in percent: 1 − smallest / largest volume, the mean over windows of two of the slowest beats.

    One window would take a long clip for its most extreme beats. Volumes are not smoothed over time: a network that
    sees one frame errs by the patient rather than by the frame, and smoothing costs end systole, which is brief in
    children.

    Args:
        frames: see :func:`measure_log_volumes`.
        fps: frames per second, above 0.

    Returns:
        EF in percent; NaN for a clip shorter than the slowest beat of the phantom (1.15 s), which may show neither
        end diastole nor end systole.

    Raises:
        InputError: for frames of another size.
    """
    if len(frames) / fps < SLOWEST_BEAT_S:
        return float("nan")
    windows = max(1, int(len(frames) / fps / (2 * SLOWEST_BEAT_S)))
    parts = np.array_split(measure_log_volumes(frames), windows)
    return float(np.mean([100 * (1 - np.exp(part.min() - part.max())) for part in parts]))


@cache
def _bundled() -> VolumeNet:
    network = VolumeNet()
    network.load_state_dict({name: value.float() for name, value in load_file(BUNDLED_FILE).items()})
    return network.eval()
