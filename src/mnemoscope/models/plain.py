"""Plain data: files that ``torch.save`` wrote, read without running any code they might carry."""

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

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


def read_plain(path: Path) -> Any:
    """Tensors, numbers, strings and containers of them, onto the CPU.

    Raises:
        CorruptFile: if the file is missing, damaged, or holds anything but data.
    """
    try:
        # Opened here: torch leaves its own handle open when a file is damaged.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CorruptFile(f"{path}: expected tensors that load without running code, got: {reason}") from error
