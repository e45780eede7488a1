"""Plain data: files that ``torch.save`` wrote, read without running any code they might carry."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mnemoscope.core.errors import CorruptFile

# What torch's restricted unpickler raises on damaged files.
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


# NumPy's numbers are data too; files of older versions of NumPy name them otherwise.
_NUMPY_NUMBERS: list[Any] = [
    (np.float64(0).__reduce__()[0], name) for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
] + [np.dtype, *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool"))]


def read_plain(path: Path) -> Any:
    """Tensors, numbers (NumPy's as well), strings and containers of them, onto the CPU.

    Raises:
        CorruptFile: if the file is missing, damaged, or holds anything but data.
    """
    try:
        # Opened here: torch leaves its own handle open when a file is damaged.
        with path.open("rb") as file, torch.serialization.safe_globals(_NUMPY_NUMBERS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CorruptFile(f"{path}: expected tensors that load without running code, got: {reason}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """A network's weights by name, from ``.safetensors`` or what ``torch.save`` wrote, onto the CPU.

    Raises:
        CorruptFile: if the file is missing, damaged, or not a dictionary of tensors.
    """
    state: Any = _read_safetensors(path) if path.suffix == ".safetensors" else read_plain(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CorruptFile(f"{path}: expected a dictionary of tensors; save network.state_dict() alone")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptFile(f"{path}: expected a readable safetensors file, got: {error}") from error
