"""Results: what the arms reached, beside the paper's Table 5, as ``downstream.json`` and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.audit.labels import r2
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Count, Estimate
from mnemoscope.downstream.decompose import Part, decompose
from mnemoscope.downstream.regress import STATISTICS, difference, estimated
from mnemoscope.downstream.subsets import Arm

SCHEMA = "mnemoscope.downstream/1"
FIGURES = ("r2", "mae", "rmse", "clips")

# Table 5 of Dombrowski et al. 2024: arm → Dynamic, A4C, PSAX, each FIGURES. Its synthetic arms are relabelled.
PAPER: dict[str, tuple[tuple[float, float, float, int], ...]] = {
    "real_full": ((0.82, 3.96, 5.22, 7465), (0.74, 4.21, 5.88, 2580), (0.76, 3.67, 5.13, 3559)),
    "real_learned": ((0.70, 4.98, 6.65, 1396), (0.71, 4.42, 6.23, 791), (0.68, 4.29, 5.94, 882)),
    "synthetic_full": ((0.29, 9.00, 10.32, 91399), (0.57, 5.45, 7.59, 99362), (0.06, 8.74, 10.15, 97064)),
    "synthetic_random": ((0.21, 9.57, 10.85, 7465), (0.52, 6.17, 8.01, 2580), (0.18, 8.01, 9.50, 3559)),
    "recall_small": ((-0.01, 10.86, 12.13, 1396), (0.52, 6.05, 8.04, 791), (-0.02, 9.20, 10.61, 882)),
    "recall_large": ((0.28, 9.12, 10.38, 5808), (0.56, 5.79, 7.68, 3511), (0.15, 8.25, 9.71, 3812)),
}
SETS = ("Dynamic", "A4C", "PSAX")


@dataclass(frozen=True)
class ArmResult:
    """What one arm reached on the real holdout.

    Attributes:
        name: of the arm.
        source: real or synthetic.
        labels: see :class:`~mnemoscope.downstream.subsets.Arm`.
        clips: those that it had, the ones that chose the network included.
        r2: mean over the trainings; the interval is from resampling holdout patients and trainings.
        mae: in points of EF.
        rmse: in points of EF.
        r2_by_seed: of each training.
        against_random: R² minus that of as many clips drawn at random; None for arms that were not cut.
    """

    name: str
    source: str
    labels: str
    clips: Count
    r2: Estimate
    mae: Estimate
    rmse: Estimate
    r2_by_seed: list[float]
    against_random: Estimate | None = None


@dataclass(frozen=True)
class DownstreamResult:
    """All arms, the parts of the gap, and why arms are absent."""

    holdout: dict[str, int]
    arms: list[ArmResult]
    parts: list[Part]
    absent: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``downstream.json``."""
        paper = {name: dict(zip(SETS, map(_figures, rows), strict=True)) for name, rows in PAPER.items()}
        return {"schema": SCHEMA} | asdict(self) | {"paper": paper}


def _figures(row: tuple[float, float, float, int]) -> dict[str, float]:
    return dict(zip(FIGURES, row, strict=True))


def summarise(
    arms: Mapping[str, Arm], predictions: Mapping[str, Sequence[pd.DataFrame]], *, absent: dict[str, str], seed: int
) -> DownstreamResult:
    """The numbers of finished arms.

    Args:
        arms: by name; those of one training stand for all.
        predictions: test predictions by arm, one table a training.
        absent: arms that were not trained, and why.
        seed: of the resampling, the same for all arms.
    """
    tested = next(iter(predictions.values()))[0]
    return DownstreamResult(
        holdout={"clips": len(tested), "patients": int(tested["patient_id"].nunique())},
        arms=[_arm(name, arm, predictions, seed) for name, arm in arms.items()],
        parts=decompose(predictions, seed=seed),
        absent=absent,
    )


def _arm(name: str, arm: Arm, predictions: Mapping[str, Sequence[pd.DataFrame]], seed: int) -> ArmResult:
    tables = predictions[name]
    numbers = {
        figure: estimated(tables, statistic, rng=generator(seed, "downstream", "bootstrap"))
        for figure, statistic in STATISTICS.items()
    }
    against = None
    if arm.control is not None and arm.control in predictions:
        against = difference(tables, predictions[arm.control], r2, rng=generator(seed, "downstream", "bootstrap"))
    by_seed = [r2(t["ef"].to_numpy(), t["predicted"].to_numpy(), np.ones(len(t))) for t in tables]
    return ArmResult(
        name=name,
        source=arm.source,
        labels=arm.labels,
        clips=len(arm.clips),
        r2_by_seed=by_seed,
        against_random=against,
        **numbers,
    )
