"""Metrics: every closed-form head as one formula, so that one exact kernel and one search serve them all.

Each head is a falling or rising function of ``cost = sum_d weight_d · |u_d − v_d|^p`` with p = 1 or 2, where u and v
are the two rows after a shift and a scale of their own. A new metric is one function here and one line in ``METRICS``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from mnemoscope.core.errors import ConfigError, DegenerateValues, Mismatch
from mnemoscope.search.blocks import ROWS_AT_ONCE, blocks
from mnemoscope.search.heads import L1, L2, Correlation, Cosine, WeightedL1

Rows = Float[np.ndarray, "n D"]
RowValues = Float64[np.ndarray, " n"]


class Normal(NamedTuple):
    """The shift and scale that make rows comparable: u = (row − shift) · scale; each of shape (n,)."""

    shift: RowValues
    scale: RowValues


@dataclass(frozen=True, eq=False)
class Metric:
    """A head in the common formula.

    ``squared`` says p = 2; a smaller cost is closer. ``similarity`` turns costs into the head's similarities.
    """

    weight: Float64[np.ndarray, " D"]
    squared: bool
    normal: Callable[[Rows], Normal]
    similarity: Callable[[np.ndarray], np.ndarray]


def metric_of(head: object, *, n_features: int) -> Metric:
    """The head in the common formula.

    Raises:
        ConfigError: if the head is none of the closed-form ones.
        Mismatch: if a weighted head has another number of weights than there are features.
    """
    build = METRICS.get(type(head))
    if build is None:
        known = ", ".join(kind.__name__ for kind in METRICS)
        raise ConfigError(
            f"a head must be one of {known} or have a method score(abs_difference), found {type(head).__name__}; "
            f"pass one of these (head=, --head)"
        )
    return build(head, n_features)


def _weighted_l1(head: WeightedL1, n_features: int) -> Metric:
    if head.weight.size != n_features:
        raise Mismatch(
            f"the head has {head.weight.size} weights but the features have {n_features} dimensions; "
            f"use the features of the model the head belongs to (head=, --reid)"
        )
    return Metric(-head.weight, squared=False, normal=_as_is, similarity=lambda cost: head.bias - cost)


def _l1(_: L1, n_features: int) -> Metric:
    return Metric(np.ones(n_features), squared=False, normal=_as_is, similarity=np.negative)


def _l2(_: L2, n_features: int) -> Metric:
    return Metric(np.ones(n_features), squared=True, normal=_as_is, similarity=lambda cost: -np.sqrt(cost))


def _cosine(_: Cosine, n_features: int) -> Metric:
    return Metric(np.ones(n_features), squared=True, normal=_unit_length, similarity=_cosine_of_chord)


def _correlation(_: Correlation, n_features: int) -> Metric:
    return Metric(np.ones(n_features), squared=True, normal=_centred_unit_length, similarity=_cosine_of_chord)


def _cosine_of_chord(cost: np.ndarray) -> np.ndarray:
    # Of two unit vectors: |u − v|² = 2 − 2 cos; unlike the dot product it is exactly 1 for a copy.
    return 1.0 - 0.5 * cost


def _as_is(rows: Rows) -> Normal:
    return Normal(np.zeros(len(rows)), np.ones(len(rows)))


def _unit_length(rows: Rows) -> Normal:
    return Normal(np.zeros(len(rows)), _inverse_length(rows, np.zeros(len(rows)), "all zero", "Cosine"))


def _centred_unit_length(rows: Rows) -> Normal:
    mean = rows.mean(axis=1, dtype=np.float64)
    # The mean of equal values is not exactly that value, so constant rows are found by their range.
    constant = rows.max(axis=1) == rows.min(axis=1)
    mean[constant] = rows[constant, 0]
    return Normal(mean, _inverse_length(rows, mean, "constant", "Correlation"))


def _inverse_length(rows: Rows, shift: RowValues, fault: str, name: str) -> RowValues:
    length = np.empty(len(rows))
    for part in blocks(len(rows), ROWS_AT_ONCE):
        length[part] = np.linalg.norm(rows[part].astype(np.float64) - shift[part, None], axis=1)
    if (length == 0).any():
        raise DegenerateValues(
            f"{name} needs rows that are not {fault}, found {int((length == 0).sum())} that are, "
            f"the first at row {int(np.argmin(length))}; remove these clips or use another head (head=L1(), --head l1)"
        )
    return 1.0 / length


METRICS: dict[type, Callable[..., Metric]] = {
    WeightedL1: _weighted_l1,
    L1: _l1,
    L2: _l2,
    Cosine: _cosine,
    Correlation: _correlation,
}
