"""Randomness: every draw comes from a generator named by (seed, purpose, indices), never from a global state."""

import hashlib

import numpy as np


def derive_seed(seed: int, *key: str | int) -> int:
    """A 64-bit seed for the named purpose; different names give independent seeds.

    Args:
        seed: the run's seed.
        key: purpose and indices, for example ``("pairs", epoch, index)``. ``1`` and ``"1"`` are different keys.
    """
    text = repr((int(seed), *(k if isinstance(k, str) else int(k) for k in key)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A NumPy generator for the named purpose, for example ``generator(seed, "pairs", epoch, index)``."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *key)))
