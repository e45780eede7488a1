"""Heads: how two feature vectors become one similarity. Higher is closer under every head."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from mnemoscope.core.errors import DegenerateValues, Mismatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class WeightedL1:
    """The trained head: logit = bias + sum_d weight_d · |q_d − g_d|, the signs of the weights being free.

    With weights ≤ 0 (the monotone head) an exact copy scores ``bias`` and nothing can score more.

    Args:
        weight: one weight for each feature, shape (D,); kept as a read-only float64 copy.
        bias: logit of an exact copy.

    Raises:
        Mismatch: if the weights are not one vector.
        DegenerateValues: if a weight or the bias is NaN or infinite.

    Source: Dombrowski et al. 2024, Eq. 2, with the linear layer of their published code.
    """

    weight: Float[np.ndarray, "..."]
    bias: float

    def __post_init__(self) -> None:
        weight = np.array(self.weight, dtype=np.float64)
        if weight.ndim != 1 or weight.size == 0:
            raise Mismatch(
                f"the head's weight needs shape (D,) with D ≥ 1, found {weight.shape}; "
                f"pass the one row of the last linear layer (weight=, or a model that has such a layer: --reid)"
            )
        if not (np.isfinite(weight).all() and np.isfinite(self.bias)):
            raise DegenerateValues(
                "the head's weight and bias must be finite, found NaN or infinity; "
                "train the re-identification model again or pass another (weight=, bias=, --reid)"
            )
        weight.setflags(write=False)
        object.__setattr__(self, "weight", weight)


@dataclass(frozen=True)
class L1:
    """Minus the sum of absolute differences: 0 for a copy, negative for all else."""


@dataclass(frozen=True)
class L2:
    """Minus the Euclidean distance: 0 for a copy, negative for all else."""


@dataclass(frozen=True)
class Cosine:
    """Cosine of the angle between the two vectors, in [−1, 1]; undefined for a vector of zeros."""


@dataclass(frozen=True)
class Correlation:
    """Pearson correlation over the features of the two vectors, in [−1, 1]; undefined for a constant vector."""


@runtime_checkable
class PairScorer(Protocol):
    """Any other head, such as an MLP: whatever gives one score for each vector of absolute differences."""

    def score(self, abs_difference: "Tensor") -> "Tensor":
        """One similarity for each pair.

        Args:
            abs_difference: |q − g| in float32 on the device of the search, shape (n, D).

        Returns:
            Similarities, higher is closer, shape (n,).
        """
        ...


Head: TypeAlias = WeightedL1 | L1 | L2 | Cosine | Correlation | PairScorer
