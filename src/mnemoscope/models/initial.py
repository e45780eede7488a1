"""Initial weights that depend on (seed, name) alone and leave the global generator as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mnemoscope.core.rng import derive_seed


@contextmanager
def named_weights(seed: int, name: str) -> Iterator[None]:
    """Networks built inside the block get the weights named (seed, name)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, name, "weights"))
        yield
