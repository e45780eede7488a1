"""Checkpoints: the whole state of a training in one file that appears whole and is read without running code."""

from pathlib import Path
from typing import Any

import torch

from mnemoscope.core.errors import CorruptFile
from mnemoscope.core.files import whole_file
from mnemoscope.models.plain import read_plain


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them."""
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what :func:`save_checkpoint` wrote, onto the CPU.

    Raises:
        CorruptFile: if it is damaged, or holds anything but data.
    """
    try:
        state = read_plain(path)
    except CorruptFile as error:
        raise CorruptFile(f"{error}; delete it to start this training again") from error
    if not isinstance(state, dict):
        raise CorruptFile(f"{path}: expected a dictionary, found {type(state).__name__}; delete it to start again")
    return state
