"""Tensors: ready latents, one ``.pt`` file per clip, read without running any code they might carry."""

import pickle
import struct
from pathlib import Path

import numpy as np

from mnemoscope.data.clips import UnreadableClip

# What torch's restricted unpickler raises on damaged files.
_TORCH_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


def read_latent(path: Path) -> np.ndarray:
    """The latent of one clip.

    Args:
        path: a file that ``torch.save`` wrote, holding one tensor.

    Returns:
        float32, (T, C, h, w).

    Raises:
        UnreadableClip: when the file is missing, damaged, needs code to load, or holds another shape.
    """
    import torch  # a second of start-up that only latents need

    try:
        # Opened here: torch leaves its own handle open when a file is damaged.
        with path.open("rb") as file:
            value = torch.load(file, map_location="cpu", weights_only=True)
    except _TORCH_ERRORS as error:
        raise UnreadableClip(
            f"{path}: expected a tensor saved by torch.save, got: {_first_line(error)}; save it again or leave it out"
        ) from error
    if not isinstance(value, torch.Tensor) or value.ndim != 4 or not value.is_floating_point() or not value.numel():
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise UnreadableClip(f"{path}: expected one floating tensor (T, C, h, w), found {found}; save it in that shape")
    return np.asarray(value.to(torch.float32).numpy())


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
