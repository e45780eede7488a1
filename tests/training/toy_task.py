"""A linear regression whose optimum is known, as the training loop wants it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mnemoscope.core.rng import generator
from mnemoscope.models.initial import named_weights

OPTIMUM = np.array([1.5, -2.0, 0.5], dtype=np.float32)
OFFSET = 0.75


def example(index: int) -> tuple[np.ndarray, np.float32]:
    x = generator(0, "x", index).standard_normal(3).astype(np.float32)
    return x, np.float32(x @ OPTIMUM + OFFSET)


class LinearTask:
    """y = x·w + b with batch normalisation absent or present, so that running means are part of the state.

    Args:
        count: examples in an epoch.
        fails_at: step whose loss raises KeyboardInterrupt, as a kill would.
        val_losses: what validation says, epoch by epoch; by default the true error.
        nan_at: step whose loss is NaN.
    """

    def __init__(
        self,
        *,
        count: int = 10,
        fails_at: int | None = None,
        val_losses: Sequence[float] | None = None,
        nan_at: int | None = None,
    ) -> None:
        with named_weights(0, "toy"):
            self.network: nn.Module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.count, self.fails_at, self.nan_at = count, fails_at, nan_at
        self.val_losses = list(val_losses) if val_losses is not None else None
        self.drawn: list[tuple[int, list[int]]] = []
        self.weights_at_validation: list[dict[str, Tensor]] = []
        self.product_dtype: torch.dtype | None = None

    def examples(self) -> int:
        return self.count

    def batch(self, epoch: int, indices: np.ndarray) -> dict[str, Tensor]:
        self.drawn.append((epoch, indices.tolist()))
        x, y = zip(*(example(int(i)) for i in indices), strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "y": torch.tensor(np.array(y))}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], step: int) -> Tensor:
        if step == self.fails_at:
            raise KeyboardInterrupt
        product = network(batch["x"])[:, 0]
        self.product_dtype = product.dtype
        error = (product.float() - batch["y"]).square().mean()
        return error * float("nan") if step == self.nan_at else error

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        self.weights_at_validation.append({k: v.clone() for k, v in network.state_dict().items()})
        if self.val_losses is not None:
            return {"loss": self.val_losses[len(self.weights_at_validation) - 1]}
        x = torch.from_numpy(np.stack([example(1000 + i)[0] for i in range(32)])).to(device)
        error = network(x)[:, 0] - x @ torch.from_numpy(OPTIMUM).to(device) - OFFSET
        return {"loss": float(error.square().mean()), "worst": float(error.abs().max())}
