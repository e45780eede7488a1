"""Decompose: the gap between training on real and on synthetic clips, in parts, each by an intervention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mnemoscope.audit.labels import r2
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate
from mnemoscope.downstream.regress import difference

# Part → arms that differ in this part alone, the better expected first, and what is changed. The first five steps lead
# from real_full to synthetic_full, so that they add up to the gap.
STEPS: dict[str, tuple[str, str, str]] = {
    "size, real": ("real_full", "prior_real", "real clips, cut at random"),
    "fidelity": ("prior_real", "prior", "real clips → synthetic ones of true EF, as many, of the same EF distribution"),
    "prior": ("prior", "prior_control", "the EF distribution of the real clips → that of the synthetic ones"),
    "size, synthetic": ("prior_control", "synthetic_measured", "synthetic clips of true EF, cut at random → all"),
    "label noise": ("synthetic_measured", "synthetic_full", "true EF of the synthetic clips → the requested one"),
}
PROBES: dict[str, tuple[str, str, str]] = {
    "coverage, on real clips": (
        "real_learned_control",
        "real_learned",
        "real clips at random → as many that the generator learned",
    ),
    "label noise, on real clips": ("real_full", "real_noisy", "true EF → EF with the errors of synthetic labels"),
    "gap": ("real_full", "synthetic_full", "all real clips → all synthetic ones, as requested"),
}


@dataclass(frozen=True)
class Part:
    """A loss of R²: that of ``first`` minus that of ``second``, which differ as ``change`` says.

    ``adds_up`` marks the parts whose sum is the gap.
    """

    name: str
    loss: Estimate
    first: str
    second: str
    change: str
    adds_up: bool


def decompose(predictions: Mapping[str, Sequence[pd.DataFrame]], *, seed: int) -> list[Part]:
    """The parts whose two arms were trained.

    Args:
        predictions: test predictions by arm, one table a training.
        seed: of the resampling, which is the same for all parts.
    """
    return [
        Part(
            name,
            difference(predictions[first], predictions[second], r2, rng=generator(seed, "downstream", "bootstrap")),
            first,
            second,
            change,
            name in STEPS,
        )
        for name, (first, second, change) in (STEPS | PROBES).items()
        if first in predictions and second in predictions
    ]
