"""Scaling: the only place where pixels become network input and latents become numbers of a fixed size.

The constants come from the train set once, are stored with the latents and with every model trained on them, and are
the same for all three sets. Scaling each clip by its own extremes, as the released code of the paper does for real
clips but not for synthetic ones, makes a verdict depend on what else lies in a folder.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mnemoscope.core.errors import DegenerateValues, Mismatch

ScalingMode = Literal["minmax", "standard"]
_ROUNDING = 1e-2  # of a standard deviation; extremes are float16, whose steps beyond eight are .008


def pixels_to_unit(frames: np.ndarray) -> np.ndarray:
    """uint8 pixels 0–255 to float32 in [−1, 1], same shape."""
    return frames.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def unit_to_pixels(values: np.ndarray) -> np.ndarray:
    """Float in [−1, 1] to uint8 pixels, rounded; a decoder's overshoot beyond the range becomes black or white."""
    return np.clip(np.rint((values.astype(np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Scaling:
    """Per-channel constants of the train set: extremes, mean and standard deviation, each of length C."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = np.array([self.low, self.high, self.mean, self.std], dtype=np.float64)
        flat = numbers[1] <= numbers[0]
        if not np.isfinite(numbers).all() or flat.any() or (numbers[3] <= 0).any():
            raise DegenerateValues(
                f"expected latents with a spread in every channel of the train set, found {asdict(self)}; "
                f"a constant or NaN latent carries nothing: check the VAE and the train clips (mnemoscope check)"
            )

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return len(self.low)

    def agrees(self, other: "Scaling") -> bool:
        """Whether these are the constants of the same clips: another processor rounds the same latents otherwise."""
        mine, others = (np.array([s.low, s.high, s.mean, s.std]) for s in (self, other))
        return mine.shape == others.shape and bool((np.abs(mine - others) <= _ROUNDING * np.array(self.std)).all())

    def apply(self, latents: np.ndarray, mode: ScalingMode) -> np.ndarray:
        """Scales latents (…, C, h, w) to float32: ``minmax`` maps the train extremes to [−1, 1] (as the paper, but

        with one set of constants), ``standard`` to mean 0 and standard deviation 1. Nothing is clipped.
        """
        self._require_channels(latents)
        shift, scale = self._affine(mode)
        return (latents.astype(np.float32) - shift) * scale

    def invert(self, scaled: np.ndarray, mode: ScalingMode) -> np.ndarray:
        """The latents that :meth:`apply` would turn into ``scaled`` (…, C, h, w), float32."""
        self._require_channels(scaled)
        shift, scale = self._affine(mode)
        return scaled.astype(np.float32) / scale + shift

    def _require_channels(self, values: np.ndarray) -> None:
        if values.shape[-3] != self.channels:
            raise Mismatch(
                f"expected latents with the {self.channels} channels of the train set, got {values.shape[-3]}; "
                f"encode both sets with one VAE (--vae)"
            )

    def _affine(self, mode: ScalingMode) -> tuple[np.ndarray, np.ndarray]:
        low, high, mean, std = (
            np.array(v, dtype=np.float32)[:, None, None] for v in (self.low, self.high, self.mean, self.std)
        )
        if mode == "minmax":
            return (low + high) / 2, 2 / (high - low)
        return mean, 1 / std

    def to_json(self) -> dict[str, Any]:
        """The constants as lists."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Sequence[float]]) -> "Scaling":
        """The inverse of :meth:`to_json`."""
        return cls(**{name: tuple(float(v) for v in values[name]) for name in ("low", "high", "mean", "std")})


@dataclass
class ScalingSums:
    """Running per-channel sums in float64 from which the constants follow; blocks may come in any sizes."""

    count: int = 0
    total: np.ndarray | None = None
    squares: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def add(self, latents: np.ndarray) -> None:
        """Takes a block of latents (T, C, h, w)."""
        values = latents.astype(np.float64)
        total, squares = values.sum(axis=(0, 2, 3)), (values**2).sum(axis=(0, 2, 3))
        low, high = values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        self.count += values.shape[0] * values.shape[2] * values.shape[3]

    def scaling(self) -> Scaling:
        """The constants of everything taken so far."""
        if self.total is None or self.squares is None or self.low is None or self.high is None:
            raise DegenerateValues(
                "expected at least one train frame to take the scaling from, found none; add train clips, or take "
                "the train store's constants (mnemoscope encode --scaling-from STORE)"
            )
        mean = self.total / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        return Scaling(*(tuple(float(v) for v in a) for a in (self.low, self.high, mean, std)))
